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
enum { LANES = 16,            /* rows that are worked on together */
       BLOCK = 128,           /* columns of a Philox block of signs */
       WORDS = 4, LINE = 4,   /* words of a block; blocks whose mask bits fill a cache line */
       LINE_COLUMNS = LINE*BLOCK, LINE_BYTES = LINE_COLUMNS/8, QUADS = BLOCK/4, CHUNK = 256 /* rows of a work item */ };
static const uint32_t M0 = 0xD2511F53u, M1 = 0xCD9E8D57u, W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;

typedef struct { uint32_t k0[10], k1[10], layer, stream, base; } generator;  /* round keys; base: number of the first row */
typedef struct { uint32_t a, b, c, d; } column;                              /* what a block's number gives to rounds 1 to 3 */
typedef struct { uint32_t a[LANES], c[LANES]; } rows;                        /* what sixteen row numbers give to them */

static generator generator_of(uint64_t seed, uint32_t layer, uint32_t stream, uint32_t base) {
    generator g = { .layer = layer, .stream = stream, .base = base };
    for (uint32_t i = 0; i < 10; i++) { g.k0[i] = (uint32_t)seed + i*W0; g.k1[i] = (uint32_t)(seed >> 32) + i*W1; }
    return g;
}
INLINE column column_of(const generator *g, uint32_t block) {
    uint64_t p = (uint64_t)block*M0, q = (uint64_t)g->layer*M1;
    uint32_t b = (uint32_t)q, c = (uint32_t)(p >> 32) ^ g->stream ^ g->k1[0], d = (uint32_t)p;   /* round 1 */
    q = (uint64_t)c*M1;                                                                          /* round 2 */
    p = (uint64_t)((uint32_t)(q >> 32) ^ b ^ g->k0[1])*M0;                                       /* round 3 */
    return (column){ d ^ g->k1[1], (uint32_t)q ^ g->k0[2], (uint32_t)(p >> 32) ^ g->k1[2], (uint32_t)p };
}
INLINE rows rows_of(const generator *g, uint32_t first) {
    rows r;
    uint32_t constant = (uint32_t)((uint64_t)g->layer*M1 >> 32) ^ g->k0[0];
    for (uint32_t i = 0; i < LANES; i++) {
        uint64_t p = (uint64_t)(constant ^ (g->base + first + i))*M0;                            /* rounds 1 and 2 */
        r.a[i] = (uint32_t)(p >> 32); r.c[i] = (uint32_t)p;
    }
    return r;
}
INLINE void words_of(const generator *g, const rows *r, column k, uint32_t word[WORDS][LANES]) {
    for (int i = 0; i < LANES; i++) {
        uint64_t q = (uint64_t)(r->a[i] ^ k.a)*M1, p;                                            /* the rest of round 3 */
        uint32_t a = (uint32_t)(q >> 32) ^ k.b, b = (uint32_t)q, c = r->c[i] ^ k.c, d = k.d;
        #pragma GCC unroll 7
        for (int round = 3; round < 10; round++) {
            p = (uint64_t)a*M0; q = (uint64_t)c*M1;
            a = (uint32_t)(q >> 32) ^ b ^ g->k0[round]; b = (uint32_t)q;
            c = (uint32_t)(p >> 32) ^ d ^ g->k1[round]; d = (uint32_t)p;
        }
        word[0][i] = a; word[1][i] = b; word[2][i] = c; word[3][i] = d;
    }
}
