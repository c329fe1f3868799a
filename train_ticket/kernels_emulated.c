/* The tensor-core products of kernels.cu, executed lane by lane on a CPU, to test every operand */
#include <string.h>
#include "kernels_int8.cuh"
#include "kernels_half.cuh"

typedef u32 bits[32][2][4];   /* of a warp's lanes: two rows, four words */

/* the mask and the signs of sixteen rows and 512 columns, as the lanes hold them */
static void lanes(place g, const u32 *mask, int out, int words, int tile, int step, bits kept, bits sign) {
    memset(kept, 0, sizeof(bits));
    for (int lane = 0; lane < 32; lane++)
        for (int h = 0; h < 2; h++) {
            int row = 16*tile + lane/4 + 8*h, block = 4*step + lane%4;
            words_of(g, row_of(g, row), block_of(g, block), sign[lane][h]);
            for (int k = 0; k < 4; k++)
                if (row < out && 4*block + k < words) kept[lane][h][k] = mask[row*words + 4*block + k];
        }
}

/* mma.m16n8k32: unsigned by signed bytes */
static void mma_bytes(int c[16][8], u32 a[32][4], u32 b[32][2]) {
    for (int row = 0; row < 16; row++)
        for (int n = 0; n < 8; n++)
            for (int k = 0; k < 32; k++) {
                u32 left = a[row%8*4 + k%16/4][row/8 + 2*(k/16)] >> 8*(k%4) & 255;
                u32 right = b[n*4 + k%16/4][k/16] >> 8*(k%4) & 255;
                c[row][n] += (int)left*(signed char)right;
            }
}

static int exponent_of_row(const float *x, int fan_in) {
    u32 most = 0, v;
    for (int c = 0; c < fan_in; c++) {
        memcpy(&v, x + c, 4);
        v &= 0x7FFFFFFF;
        most = v > most ? v : most;
    }
    return exponent_of(most);
}

static long long total(int c[2][8][16][8], int input, int row) {
    long long sum = 0, weight = 1;
    for (int n = 0; n < 4; n++, weight *= 256)
        for (int j = 0; j < 8; j++)
            sum += weight*((c[0][j][row][4*input + n] - c[1][j][row][4*input + n]) >> j);
    return sum;
}

/* matvec_int8, two inputs at most */
void check_int8(const float *x, int batch, int fan_in, const u32 *mask, int out,
                place g, float unit, float *y) {
    int words = (fan_in + 31)/32, exponent[2] = { 0, 0 };
    for (int i = 0; i < batch; i++) exponent[i] = exponent_of_row(x + i*fan_in, fan_in);
    for (int tile = 0; 16*tile < out; tile++) {
        int c[2][8][16][8];
        memset(c, 0, sizeof c);
        for (int step = 0; 512*step < fan_in; step++) {
            bits kept, sign;
            lanes(g, mask, out, words, tile, step, kept, sign);
            for (int i = 0; i < 32; i++) {
                int minus = i/16, pair = i/8%2, j = i%8;
                u32 a[32][4], b[32][2];
                for (int lane = 0; lane < 32; lane++) {
                    int8_operand(kept[lane], sign[lane], minus, pair, j, a[lane]);
                    for (int r = 0; r < 2; r++) {
                        int word = (4*step + lane%4)*4 + 2*pair + r, at = ((word*2 + j/4)*8 + lane/4)*4 + j%4;
                        b[lane][r] = int8_entry(x, batch, fan_in, exponent, at);
                    }
                }
                mma_bytes(c[minus][j], a, b);
            }
        }
        for (int i = 0; i < batch; i++)
            for (int row = 0; row < 16 && 16*tile + row < out; row++)
                y[i*out + 16*tile + row] = unit*((float)total(c, i, row)*power_of_two(exponent[i] - 30));
    }
}

static float number(u32 v, int half) {   /* bfloat16, or float16 */
    union { u32 i; float f; } u;
    v &= 0xFFFF;
    u.i = half ? (v & 0x8000) << 16 | (v & 0x7FFF) << 13 : v << 16;
    return half ? u.f*0x1p112f : u.f;
}

/* mma.m16n8k16: 16-bit floats */
static void mma_numbers(float c[16][8], u32 a[32][4], u32 b[32][2], int half) {
    for (int row = 0; row < 16; row++)
        for (int n = 0; n < 8; n++)
            for (int k = 0; k < 16; k++) {
                u32 left = a[row%8*4 + k%8/2][row/8 + 2*(k/8)] >> 16*(k%2);
                u32 right = b[n*4 + k%8/2][k/8] >> 16*(k%2);
                c[row][n] += number(left, half)*number(right, half);
            }
}

/* small_batch: one limb of 16 bits, or the three of a float32 */
void check_half(const void *x, int limbs, int half, int batch, int fan_in, const u32 *mask, int out,
                place g, float unit, float *y) {
    int words = (fan_in + 31)/32;
    for (int tile = 0; 16*tile < out; tile++)
        for (int first = 0; first < batch; first += 8) {
            float c[16][8];
            memset(c, 0, sizeof c);
            for (int i = 0; 512*(i/32) < fan_in; i++) {
                int step = i/32, word = i/8%4, j = i%8;
                bits kept, sign;
                lanes(g, mask, out, words, tile, step, kept, sign);
                for (int limb = 0; limb < limbs; limb++) {
                    u32 a[32][4], b[32][2];
                    for (int lane = 0; lane < 32; lane++) {
                        int at = ((((4*step + lane%4)*4 + word)*4 + j/2)*8 + lane/4)*4 + 2*(j%2);
                        half_operand(kept[lane], sign[lane], word, j, half ? 0x3C00 : 0x3F80, a[lane]);
                        for (int r = 0; r < 2; r++)
                            b[lane][r] = half_entry(x, limbs > 1, batch, fan_in, first, limb, at + r);
                    }
                    mma_numbers(c, a, b, half);
                }
            }
            for (int n = 0; n < 8 && first + n < batch; n++)
                for (int row = 0; row < 16 && 16*tile + row < out; row++)
                    y[(first + n)*out + 16*tile + row] = unit*c[row][n];
        }
}

/* write_weights */
void check_weights(u32 base, int count, int fan_in, place g, float unit, float *w) {
    int per_block = g.stream == 0 ? 128 : g.stream == 1 ? 16 : 4;
    u32 word[4];
    for (int row = 0; row < count; row++)
        for (int c = 0; c < fan_in; c++) {
            words_of(g, row_of(g, base + row), block_of(g, c/per_block), word);
            w[row*fan_in + c] = weight_of(g.stream, word, c%per_block, unit);
        }
}
