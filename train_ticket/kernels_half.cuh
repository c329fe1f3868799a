#pragma once
#include "kernels_philox.cuh"

/* 16-bit floats −1, 0, 1: columns j and j + 16 of a word as a pair; one = the bits of 1.0 */
BOTH u32 half_pair(u32 kept, u32 sign, int j, u32 one) {
    return (kept >> j & 0x00010001u)*one | (~sign << (15 - j) & 0x80008000u);
}

/* operand A of m16n8k16 */
BOTH void half_operand(const u32 kept[2][4], const u32 sign[2][4], int k, int j, u32 one, u32 a[4]) {
    for (int i = 0; i < 4; i++) a[i] = half_pair(kept[i & 1][k], sign[i & 1][k], j + 8*(i >> 1), one);
}

/* a float32 is the sum of three bfloat16: 8 + 8 + 8 bits */
BOTH u32 bfloat16_limb(float x, int limb) {
    union { float f; u32 i; } v, top;
    v.f = x;
    for (int i = 0; i < limb; i++) { top.f = v.f; top.i &= 0xFFFF0000u; v.f -= top.f; }
    return v.i >> 16;
}

/* operand B: packed[limb][block][word][j/2][n][j%2][half];
   its halves are the columns j + 8·half and j + 8·half + 16 */
BOTH u32 half_entry(const void *x, int is_float, int batch, int fan_in, int first, int limb, int index) {
    int half = index & 1, j = (index >> 1 & 1) | (index >> 5 & 3) << 1, n = first + (index >> 2 & 7);
    const float *singles = (const float *)x;
    const unsigned short *halves = (const unsigned short *)x;
    u32 entry = 0;
    for (int i = 0; i < 2; i++) {
        int c = 32*(index >> 7) + j + 8*half + 16*i;
        if (c >= fan_in || n >= batch) continue;
        u64 at = (u64)n*fan_in + c;
        entry |= (is_float ? bfloat16_limb(singles[at], limb) : halves[at]) << 16*i;
    }
    return entry;
}
