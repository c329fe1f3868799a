/* Products with weights that are generated inside the loop: the kernels of a GPU */
#include "kernels_int8.cuh"
#include "kernels_half.cuh"

#define LANE (threadIdx.x & 31)
#define WARP (threadIdx.x >> 5)
#define EVERY_LANE 0xFFFFFFFFu
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define PRODUCT extern "C" __global__ void __launch_bounds__(256)

DEVICE void load_kept(const u32 *mask, u64 row, int out, int words, int block, u32 kept[4]) {
    const u32 *source = mask + row*words + 4*block;
    kept[0] = kept[1] = kept[2] = kept[3] = 0;
    if (row >= out) return;
    if (words%4 == 0 && 4*block < words) {
        uint4 v = *(const uint4 *)source;
        kept[0] = v.x; kept[1] = v.y; kept[2] = v.z; kept[3] = v.w;
    }
    else for (int k = 0; k < 4; k++) if (4*block + k < words) kept[k] = source[k];
}

DEVICE void mma_int8(int c[4], const u32 a[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

KERNEL pack_int8(const float *x, int batch, int fan_in, int entries, u32 *packed, int *exponents) {
    __shared__ u32 largest[2];
    const int first = 2*blockIdx.y, inputs = min(2, batch - first);
    x += (u64)first*fan_in;
    if (threadIdx.x < 2) largest[threadIdx.x] = 0;
    __syncthreads();
    for (int i = 0; i < inputs; i++) {
        u32 most = 0;
        for (int c = threadIdx.x; c < fan_in; c += blockDim.x)
            most = max(most, __float_as_uint(x[(u64)i*fan_in + c]) & 0x7FFFFFFFu);
        atomicMax(&largest[i], __reduce_max_sync(EVERY_LANE, most));
    }
    __syncthreads();
    const int exponent[2] = { exponent_of(largest[0]), exponent_of(largest[1]) };
    if (blockIdx.x == 0 && threadIdx.x < 2) exponents[first + threadIdx.x] = exponent[threadIdx.x];
    for (int i = blockIdx.x*blockDim.x + threadIdx.x; i < entries; i += gridDim.x*blockDim.x)
        packed[(u64)blockIdx.y*entries + i] = int8_entry(x, inputs, fan_in, exponent, i);
}

/* y = unit·(kept signs)·x for two inputs; a CTA has sixteen rows, its warps share the columns */
PRODUCT matvec_int8(const u32 *mask, const uint4 *packed, const int *exponents, float *y,
                    int batch, int out, int fan_in, place g, float unit) {
    const int words = (fan_in + 31)/32, blocks = (fan_in + 127)/128, warps = blockDim.x >> 5;
    const int group = LANE >> 2, t = LANE & 3, row = 16*blockIdx.x + group, entries = (blocks + 3)/4*4*256;
    const row_part r[2] = { row_of(g, row), row_of(g, row + 8) };
    int plus[8][4] = {}, minus[8][4] = {};
    packed += (u64)blockIdx.y*(entries/4);
    for (int block = 4*WARP + t; block - t < blocks; block += 4*warps) {
        u32 kept[2][4], sign[2][4], a[4];
        const block_part k = block_of(g, block);
        #pragma unroll
        for (int h = 0; h < 2; h++) {
            load_kept(mask, row + 8*h, out, words, block, kept[h]);
            words_of(g, r[h], k, sign[h]);
        }
        #pragma unroll
        for (int pair = 0; pair < 2; pair++)
            #pragma unroll
            for (int quarter = 0; quarter < 2; quarter++) {
                const uint4 low = __ldg(packed + ((block*4 + 2*pair)*2 + quarter)*8 + group);
                const uint4 high = __ldg(packed + ((block*4 + 2*pair + 1)*2 + quarter)*8 + group);
                const u32 b0[4] = { low.x, low.y, low.z, low.w }, b1[4] = { high.x, high.y, high.z, high.w };
                #pragma unroll
                for (int i = 0; i < 4; i++) {
                    int8_operand(kept, sign, 0, pair, 4*quarter + i, a);
                    mma_int8(plus[4*quarter + i], a, b0[i], b1[i]);
                    int8_operand(kept, sign, 1, pair, 4*quarter + i, a);
                    mma_int8(minus[4*quarter + i], a, b0[i], b1[i]);
                }
            }
    }
    __shared__ long long sums[8][2][16];
    int v[4] = {};
    #pragma unroll
    for (int i = 0; i < 4; i++)
        #pragma unroll
        for (int j = 0; j < 8; j++) v[i] += (plus[j][i] - minus[j][i]) >> j;
    #pragma unroll
    for (int h = 0; h < 2; h++) {
        long long s = ((long long)v[2*h] + 256LL*v[2*h + 1])*(t & 1 ? 65536 : 1);
        s += __shfl_xor_sync(EVERY_LANE, s, 1);
        if (!(t & 1)) sums[WARP][t >> 1][group + 8*h] = s;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        const int input = threadIdx.x >> 4, j = 2*blockIdx.y + input;
        const int target = 16*blockIdx.x + (threadIdx.x & 15);
        long long s = 0;
        for (int w = 0; w < warps; w++) s += sums[w][input][threadIdx.x & 15];
        if (j < batch && target < out) y[(u64)j*out + target] = unit*ldexpf((float)s, exponents[j] - 30);
    }
}

#define MMA_HALF(types) \
    asm("mma.sync.aligned.m16n8k16.row.col." types " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

template <bool HALF> DEVICE void mma_half(float c[4], const u32 a[4], u32 b0, u32 b1) {
    if (HALF) MMA_HALF("f32.f16.f16.f32");
    else MMA_HALF("f32.bf16.bf16.f32");
}

KERNEL pack_half(const void *x, int limbs, int batch, int fan_in, int entries, u32 *packed) {
    const u64 start = (u64)blockIdx.y*limbs*entries;   /* blockIdx.y: eight inputs */
    for (int i = blockIdx.x*blockDim.x + threadIdx.x; i < limbs*entries; i += gridDim.x*blockDim.x)
        packed[start + i] = half_entry(x, limbs > 1, batch, fan_in, 8*blockIdx.y, i/entries, i%entries);
}

template <int LIMBS, bool HALF>
DEVICE void small_batch(const u32 *mask, const uint4 *packed, float *y,
                        int batch, int out, int fan_in, place g, float unit) {
    const int words = (fan_in + 31)/32, blocks = (fan_in + 127)/128, warps = blockDim.x >> 5;
    const int group = LANE >> 2, t = LANE & 3, row = 16*blockIdx.x + group;
    const int quads = (blocks + 3)/4*4*64;   /* 16-byte entries of eight inputs and a limb */
    const row_part r[2] = { row_of(g, row), row_of(g, row + 8) };
    const u32 one = HALF ? 0x3C00u : 0x3F80u;
    float c[2][4] = {};
    packed += (u64)blockIdx.y*2*LIMBS*quads;
    for (int block = 4*WARP + t; block - t < blocks; block += 4*warps) {
        u32 kept[2][4], sign[2][4];
        const block_part k = block_of(g, block);
        #pragma unroll
        for (int h = 0; h < 2; h++) {
            load_kept(mask, row + 8*h, out, words, block, kept[h]);
            words_of(g, r[h], k, sign[h]);
        }
        #pragma unroll
        for (int word = 0; word < 4; word++)
            #pragma unroll
            for (int two = 0; two < 4; two++) {
                u32 a[4], b[4];
                half_operand(kept, sign, word, 2*two, one, a);
                half_operand(kept, sign, word, 2*two + 1, one, b);
                #pragma unroll
                for (int tile = 0; tile < 2; tile++)
                    #pragma unroll
                    for (int limb = LIMBS - 1; limb >= 0; limb--) {
                        const u64 eight = (u64)(tile*LIMBS + limb)*quads;
                        const uint4 v = __ldg(packed + eight + ((block*4 + word)*4 + two)*8 + group);
                        mma_half<HALF>(c[tile], a, v.x, v.y);
                        mma_half<HALF>(c[tile], b, v.z, v.w);
                    }
            }
    }
    __shared__ float sums[8][16][17];
    #pragma unroll
    for (int i = 0; i < 8; i++)
        sums[WARP][group + 8*(i >> 1 & 1)][8*(i >> 2) + 2*t + (i & 1)] = c[i >> 2][i & 3];
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x) {
        const int j = 16*blockIdx.y + (i >> 4), target = 16*blockIdx.x + (i & 15);
        float s = 0;
        for (int w = 0; w < warps; w++) s += sums[w][i & 15][i >> 4];
        if (j < batch && target < out) y[(u64)j*out + target] = unit*s;
    }
}

#define SMALL_BATCH(name, limbs, half) \
    PRODUCT name(const u32 *mask, const uint4 *packed, float *y, \
                 int batch, int out, int fan_in, place g, float unit) { \
        small_batch<limbs, half>(mask, packed, y, batch, out, fan_in, g, unit); \
    }
SMALL_BATCH(small_batch_f32, 3, false)
SMALL_BATCH(small_batch_bf16, 1, false)
SMALL_BATCH(small_batch_f16, 1, true)

/* one thread per block of a row */
KERNEL write_weights(float *w, u64 base, int count, int fan_in, place g, float unit) {
    const int per_block = g.stream == 0 ? 128 : g.stream == 1 ? 16 : 4;
    const int blocks = (fan_in + per_block - 1)/per_block;
    for (u64 i = (u64)blockIdx.x*blockDim.x + threadIdx.x; i < (u64)count*blocks;
         i += (u64)gridDim.x*blockDim.x) {
        const u64 row = i/blocks;
        const int block = (int)(i%blocks);
        u32 word[4];
        words_of(g, row_of(g, (u32)(base + row)), block_of(g, block), word);
        for (int c = 0; c < per_block && block*per_block + c < fan_in; c++)
            w[row*fan_in + block*per_block + c] = weight_of(g.stream, word, c, unit);
    }
}
