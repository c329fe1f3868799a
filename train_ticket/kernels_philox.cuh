#pragma once
/* Functions marked BOTH compile for a GPU and, as C, for the host that emulates one */
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define BOTH __host__ __device__ __forceinline__
#else
#define BOTH static inline
#endif
typedef unsigned int u32;
typedef unsigned long long u64;

/* Philox4x32-10; as in the C path, rounds 1 to 3 of the row or the block alone are computed once */
typedef struct { u32 k0, k1, layer, stream; } place;
typedef struct { u32 a, c; } row_part;
typedef struct { u32 a, b, c, d; } block_part;
#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

BOTH row_part row_of(place g, u32 row) {
    u64 p = (u64)((u32)((u64)g.layer*M1 >> 32) ^ g.k0 ^ row)*M0;
    row_part r = { (u32)(p >> 32), (u32)p };
    return r;
}

BOTH block_part block_of(place g, u32 block) {
    u64 p = (u64)block*M0, q = (u64)g.layer*M1;
    u32 b = (u32)q, c = (u32)(p >> 32) ^ g.stream ^ g.k1, d = (u32)p;
    q = (u64)c*M1;
    p = (u64)((u32)(q >> 32) ^ b ^ (g.k0 + W0))*M0;
    block_part k = { d ^ (g.k1 + W1), (u32)q ^ (g.k0 + 2*W0), (u32)(p >> 32) ^ (g.k1 + 2*W1), (u32)p };
    return k;
}

BOTH void words_of(place g, row_part r, block_part k, u32 word[4]) {
    u64 q = (u64)(r.a ^ k.a)*M1, p;
    u32 a = (u32)(q >> 32) ^ k.b, b = (u32)q, c = r.c ^ k.c, d = k.d;
    for (u32 i = 3; i < 10; i++) {
        p = (u64)a*M0; q = (u64)c*M1;
        a = (u32)(q >> 32) ^ b ^ (g.k0 + i*W0); b = (u32)q;
        c = (u32)(p >> 32) ^ d ^ (g.k1 + i*W1); d = (u32)p;
    }
    word[0] = a; word[1] = b; word[2] = c; word[3] = d;
}

BOTH float weight_of(int stream, const u32 word[4], int column, float unit) {
    if (stream == 0) return word[column/32] >> column%32 & 1 ? unit : -unit;
    if (stream == 1) return unit*(float)(2*(int)(word[column/4] >> 8*(column%4) & 255) - 255);
    u32 v = word[column];
    return unit*(float)((int)((v & 255) + (v >> 8 & 255) + (v >> 16 & 255) + (v >> 24)) - 510);
}
