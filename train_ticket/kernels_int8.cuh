#pragma once
#include "kernels_philox.cuh"

/* operand A of m16n8k32 for two rows and two words: bit j of each byte, worth 2^j */
BOTH void int8_operand(const u32 kept[2][4], const u32 sign[2][4], int minus, int pair, int j, u32 a[4]) {
    for (int i = 0; i < 4; i++) {
        u32 s = sign[i & 1][2*pair + (i >> 1)];
        a[i] = kept[i & 1][2*pair + (i >> 1)] & (minus ? ~s : s) & (0x01010101u << j);
    }
}

/* |x·to_fixed| ≤ 2^30, to the nearest whole number */
BOTH int fixed_point(float x, float to_fixed) {
    float v = x*to_fixed;
    int q = (int)v;
    float rest = v - (float)q;
    return q + (rest >= .5f) - (rest <= -.5f);
}

/* q = Σ limb·256^i with limbs in −128…127; as a byte */
BOTH u32 limb_of(int q, int limb) {
    for (int i = 0; i < limb; i++) q = (q - (int)(signed char)(q & 255)) >> 8;
    return (u32)q & 255;
}

BOTH float power_of_two(int e) {
    union { u32 i; float f; } v;
    v.i = (u32)(e + 127) << 23;
    return v.f;
}

/* operand B: packed[block][word][j/4][n][j%4], n = 4·input + limb;
   its bytes are the columns j, j + 8, j + 16, j + 24 of the word */
BOTH u32 int8_entry(const float *x, int batch, int fan_in, const int exponent[2], int index) {
    int j = index & 3 | (index >> 5 & 1) << 2, n = index >> 2 & 7, column = index >> 6, input = n >> 2;
    u32 entry = 0;
    for (int i = 0; i < 4; i++) {
        int c = 32*column + j + 8*i;
        if (c >= fan_in || input >= batch) continue;
        entry |= limb_of(fixed_point(x[input*fan_in + c], power_of_two(30 - exponent[input])), n & 3) << 8*i;
    }
    return entry;
}

/* from the bits of the largest |x|; |x| < 2^exponent */
BOTH int exponent_of(u32 largest) {
    int e = (int)(largest >> 23) - 126;
    return e < -90 ? -90 : e;
}
