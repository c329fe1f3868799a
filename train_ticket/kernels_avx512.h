/* AVX-512: sixteen rows in a register */
#pragma once
#include "kernels_avx2.h"
#ifdef HAVE_X86
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
typedef struct { __m512i a[4], b[4], c[4], d[4]; } state_512;   /* two blocks, even and odd rows of each */

AVX512 INLINE __m512i xor3(__m512i a, __m512i b, uint32_t key) {
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi32(key), 0x96);
}
AVX512 INLINE __m512i upper_512(__m512i v) { return _mm512_srli_epi64(v, 32); }
AVX512 INLINE __m512i joined_512(const __m512i v[2]) {   /* even rows, odd rows → sixteen rows */
    return _mm512_mask_shuffle_epi32(v[0], 0xAAAA, v[1], (_MM_PERM_ENUM)0xA0);
}

AVX512 INLINE void begin_512(const rows *r, const column k[2], state_512 *s) {
    const __m512i row_a = _mm512_loadu_si512(r->a), row_c = _mm512_loadu_si512(r->c);
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512i a = _mm512_xor_si512(row_a, _mm512_set1_epi32(k[i/2].a));
        const __m512i c = _mm512_xor_si512(row_c, _mm512_set1_epi32(k[i/2].c));
        s->b[i] = _mm512_mul_epu32(i%2 ? upper_512(a) : a, _mm512_set1_epi64(M1));
        s->a[i] = _mm512_xor_si512(upper_512(s->b[i]), _mm512_set1_epi32(k[i/2].b));
        s->c[i] = i%2 ? upper_512(c) : c;
        s->d[i] = _mm512_set1_epi32(k[i/2].d);
    }
}
AVX512 INLINE void rounds_512(const generator *g, state_512 *s) {
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1);
    #pragma GCC unroll 7
    for (int n = 3; n < 10; n++)
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m512i p = _mm512_mul_epu32(s->a[i], m0), q = _mm512_mul_epu32(s->c[i], m1);
            s->a[i] = xor3(upper_512(q), s->b[i], g->k0[n]);
            s->c[i] = xor3(upper_512(p), s->d[i], g->k1[n]);
            s->b[i] = q;
            s->d[i] = p;
        }
}
AVX512 INLINE void generated_512(const generator *g, const rows *r, uint32_t block, __m512i word[2*WORDS]) {
    const column k[2] = { column_of(g, block), column_of(g, block + 1) };
    state_512 s;
    begin_512(r, k, &s);
    rounds_512(g, &s);
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        word[4*i] = joined_512(s.a + 2*i);
        word[4*i + 1] = joined_512(s.b + 2*i);
        word[4*i + 2] = joined_512(s.c + 2*i);
        word[4*i + 3] = joined_512(s.d + 2*i);
    }
}

/* Four words of sixteen rows → a register for each word */
AVX512 INLINE void transposed_512(const line_view *v, int block, __m512i word[WORDS]) {
    __m512i row[4], pair[4];
    #pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {   /* rows s, 4 + s, 8 + s, 12 + s */
        const uint8_t *from = v->at + s*v->stride + block*(WORDS*4);
        const int64_t four = 4*v->stride;
        row[s] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)from));
        row[s] = _mm512_mask_broadcast_i32x4(row[s], 0x00F0, _mm_loadu_si128((const void *)(from + four)));
        row[s] = _mm512_mask_broadcast_i32x4(row[s], 0x0F00, _mm_loadu_si128((const void *)(from + 2*four)));
        row[s] = _mm512_mask_broadcast_i32x4(row[s], 0xF000, _mm_loadu_si128((const void *)(from + 3*four)));
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        pair[2*i] = _mm512_unpacklo_epi32(row[2*i], row[2*i + 1]);
        pair[2*i + 1] = _mm512_unpackhi_epi32(row[2*i], row[2*i + 1]);
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        word[2*i] = _mm512_unpacklo_epi64(pair[i], pair[2 + i]);
        word[2*i + 1] = _mm512_unpackhi_epi64(pair[i], pair[2 + i]);
    }
}

AVX512 static void signs_avx512(const generator *g, const rows *r, const planes *p, int64_t first,
                                int64_t line, bits plus, bits minus) {
    row_bytes copies[2];
    const line_view kept = view_kept(p, first, line, copies[0]), sign = view_sign(p, first, line, copies[1]);
    for (int b = 0; b < blocks_of(p, line); b += 2) {
        __m512i keep[2*WORDS], word[2*WORDS];
        if (!sign.at) generated_512(g, r, (uint32_t)line*LINE + b, word);
        #pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            transposed_512(&kept, b + i, keep + i*WORDS);
            if (sign.at) transposed_512(&sign, b + i, word + i*WORDS);
        }
        #pragma GCC unroll 8
        for (int w = 0; w < 2*WORDS; w++) {
            _mm512_storeu_si512(plus[b*WORDS + w], _mm512_and_si512(keep[w], word[w]));
            _mm512_storeu_si512(minus[b*WORDS + w], _mm512_andnot_si512(word[w], keep[w]));
        }
    }
}

/* Nibble n of each lane in its four lowest bits; vpermps ignores the others. Most shifts are written as
   multiplications: permutations and additions use the ports of the shifts, and the multiplier is free */
AVX512 INLINE __m512i nibble_512(__m512i v, int n) {
    if (n >= 4) v = _mm512_srli_epi32(v, 16);
    return n % 4 ? _mm512_mulhi_epu16(v, _mm512_set1_epi32(1 << (16 - 4*(n % 4)))) : v;
}
/* p·1 − m is p − m, on the ports that multiply. The empty asm keeps the compiler from moving
   all permutations before all additions, which would need too many registers */
AVX512 INLINE void add_512(__m512 *sum, const float *t, __m512i plus, __m512i minus) {
    const __m512 values = _mm512_loadu_ps(t);
    const __m512 p = _mm512_permutexvar_ps(plus, values), m = _mm512_permutexvar_ps(minus, values);
    *sum = _mm512_add_ps(*sum, _mm512_fmsub_ps(p, _mm512_set1_ps(1), m));
    __asm__ volatile("" : "+v"(*sum));
}
AVX512 INLINE void store_512(target to, const int groups, const int inputs, __m512 sum[4]) {
    #pragma GCC unroll 4
    for (int i = 0; i < groups*inputs; i++) {
        const int64_t left = to.rows - i/inputs*LANES;
        const __mmask16 rows = left >= LANES ? 0xFFFF : (__mmask16)((1u << left) - 1);
        float *y = to.y + i%inputs*to.stride + i/inputs*LANES;
        _mm512_mask_storeu_ps(y, rows, _mm512_add_ps(_mm512_maskz_loadu_ps(rows, y), sum[i]));
    }
}
/* Four groups of rows and one input, or one group and four inputs: four independent sums hide an addition's
   latency. Sum i is that of group i/inputs and input i%inputs */
AVX512 INLINE void lookup_512(const bits *plus, const bits *minus, int block, const int groups,
                              const int inputs, const table *tables, target to) {
    __m512 sum[4];
    for (int i = 0; i < 4; i++) sum[i] = _mm512_setzero_ps();
    #pragma GCC unroll 1
    for (int k = 0; k < WORDS; k++, tables += 8) {
        __m512i p[4], m[4];
        #pragma GCC unroll 4
        for (int h = 0; h < groups; h++) {
            p[h] = _mm512_loadu_si512(plus[h][block*WORDS + k]);
            m[h] = _mm512_loadu_si512(minus[h][block*WORDS + k]);
        }
        #pragma GCC unroll 8
        for (int n = 0; n < 8; n++) {
            #pragma GCC unroll 4
            for (int i = 0; i < groups*inputs; i++)
                add_512(&sum[i], tables[i%inputs*QUADS + n], nibble_512(p[i/inputs], n),
                        nibble_512(m[i/inputs], n));
        }
    }
    store_512(to, groups, inputs, sum);
}
AVX512 static void lookup_avx512(const bits *plus, const bits *minus, int block, int groups, int inputs,
                                 const table *tables, target to) {
    if (inputs == 1 && groups == 4) {
        lookup_512(plus, minus, block, 4, 1, tables, to);
        return;
    }
    for (int h = 0; h < groups; h++, to.y += LANES, to.rows -= LANES)
        if (inputs == 4) lookup_512(plus + h, minus + h, block, 1, 4, tables, to);
        else lookup_512(plus + h, minus + h, block, 1, 1, tables, to);
}
AVX512 static void tables_avx512(const float *x, table *t) {
    for (int q = 0; q < QUADS; q++, x += 4) {
        __m512 sum = _mm512_maskz_mov_ps(0xAAAA, _mm512_set1_ps(x[0]));
        sum = _mm512_mask_add_ps(sum, 0xCCCC, sum, _mm512_set1_ps(x[1]));
        sum = _mm512_mask_add_ps(sum, 0xF0F0, sum, _mm512_set1_ps(x[2]));
        _mm512_storeu_ps(t[q], _mm512_mask_add_ps(sum, 0xFF00, sum, _mm512_set1_ps(x[3])));
    }
}
#endif
