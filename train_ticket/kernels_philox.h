/* Philox4x32-10 (Salmon and others 2011) with the counter (block, row, layer, stream), for sixteen rows at
   once. What depends on the row or on the block alone is computed once; 7.5 of ten rounds are left */
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_X86 1
#elif defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#define HAVE_NEON 1
#endif
#define INLINE static inline __attribute__((always_inline))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
enum {
    LANES = 16,                  /* rows that are worked on together */
    WORDS = 4, BLOCK = 128,      /* 32-bit words and columns of a Philox block of signs */
    LINE = 4, LINE_BYTES = 64,   /* blocks whose mask bits fill a cache line */
    LINE_COLUMNS = LINE*BLOCK,
    QUADS = BLOCK/4,             /* tables of four inputs for a block */
    CHUNK = 256                  /* rows of a work item */
};
static const uint32_t M0 = 0xD2511F53u, M1 = 0xCD9E8D57u, W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;

typedef struct { uint32_t k0[10], k1[10], layer, stream, base; } generator;   /* keys; the first row */
typedef struct { uint32_t a, b, c, d; } column;         /* what a block's number gives to rounds 1 to 3 */
typedef struct { uint32_t a[LANES], c[LANES]; } rows;   /* what sixteen row numbers give to them */

static generator generator_of(uint64_t seed, uint32_t layer, uint32_t stream, uint32_t base) {
    generator g = { .layer = layer, .stream = stream, .base = base };
    for (uint32_t i = 0; i < 10; i++) {
        g.k0[i] = (uint32_t)seed + i*W0;
        g.k1[i] = (uint32_t)(seed >> 32) + i*W1;
    }
    return g;
}
INLINE uint32_t upper(uint64_t product) { return (uint32_t)(product >> 32); }

INLINE column column_of(const generator *g, uint32_t block) {
    const uint64_t p = (uint64_t)block*M0, q = (uint64_t)g->layer*M1;                /* round 1 */
    const uint64_t second = (uint64_t)(upper(p) ^ g->stream ^ g->k1[0])*M1;          /* round 2 */
    const uint64_t third = (uint64_t)(upper(second) ^ (uint32_t)q ^ g->k0[1])*M0;    /* round 3 */
    return (column){ (uint32_t)p ^ g->k1[1], (uint32_t)second ^ g->k0[2], upper(third) ^ g->k1[2],
                     (uint32_t)third };
}
INLINE rows rows_of(const generator *g, uint32_t first) {
    const uint32_t constant = upper((uint64_t)g->layer*M1) ^ g->k0[0];
    rows r;
    for (uint32_t i = 0; i < LANES; i++) {
        const uint64_t p = (uint64_t)(constant ^ (g->base + first + i))*M0;          /* rounds 1 and 2 */
        r.a[i] = upper(p);
        r.c[i] = (uint32_t)p;
    }
    return r;
}
INLINE void words_of(const generator *g, const rows *r, column k, uint32_t word[WORDS][LANES]) {
    for (int i = 0; i < LANES; i++) {
        uint64_t q = (uint64_t)(r->a[i] ^ k.a)*M1, p;                                /* the rest of round 3 */
        uint32_t a = upper(q) ^ k.b, b = (uint32_t)q, c = r->c[i] ^ k.c, d = k.d;
        #pragma GCC unroll 7
        for (int round = 3; round < 10; round++) {
            p = (uint64_t)a*M0;
            q = (uint64_t)c*M1;
            a = upper(q) ^ b ^ g->k0[round];
            c = upper(p) ^ d ^ g->k1[round];
            b = (uint32_t)q;
            d = (uint32_t)p;
        }
        word[0][i] = a;
        word[1][i] = b;
        word[2][i] = c;
        word[3][i] = d;
    }
}
