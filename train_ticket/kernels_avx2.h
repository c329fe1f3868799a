#pragma once
#include "kernels_lookup.h"
#ifdef HAVE_X86
#define AVX2 __attribute__((target("avx2")))
typedef struct { __m256i a[4], b[4], c[4], d[4]; } state_256;   /* even and odd rows 0 to 7, then 8 to 15 */

AVX2 INLINE __m256i load_256(const uint32_t *v) { return _mm256_loadu_si256((const void *)v); }
AVX2 INLINE void store_256(uint32_t *to, __m256i v) { _mm256_storeu_si256((void *)to, v); }

AVX2 INLINE __m256i upper(__m256i v) { return _mm256_srli_epi64(v, 32); }
AVX2 INLINE __m256i mixed(__m256i product, __m256i other, uint32_t key) {
    return _mm256_xor_si256(_mm256_xor_si256(upper(product), other), _mm256_set1_epi32(key));
}
AVX2 INLINE __m256i joined(const __m256i v[2]) {   /* even rows, odd rows → eight rows */
    return _mm256_blend_epi32(v[0], _mm256_slli_epi64(v[1], 32), 0xAA);
}

AVX2 INLINE void begin_256(const rows *r, column k, state_256 *s) {
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m256i a = _mm256_xor_si256(load_256(r->a + i/2*8), _mm256_set1_epi32(k.a));
        const __m256i c = _mm256_xor_si256(load_256(r->c + i/2*8), _mm256_set1_epi32(k.c));
        s->b[i] = _mm256_mul_epu32(i%2 ? upper(a) : a, _mm256_set1_epi64x(M1));
        s->a[i] = _mm256_xor_si256(upper(s->b[i]), _mm256_set1_epi32(k.b));
        s->c[i] = i%2 ? upper(c) : c;
        s->d[i] = _mm256_set1_epi32(k.d);
    }
}

AVX2 INLINE void rounds_256(const generator *g, state_256 *s) {
    const __m256i m0 = _mm256_set1_epi64x(M0), m1 = _mm256_set1_epi64x(M1);
    #pragma GCC unroll 7
    for (int n = 3; n < 10; n++)
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m256i p = _mm256_mul_epu32(s->a[i], m0), q = _mm256_mul_epu32(s->c[i], m1);
            s->a[i] = mixed(q, s->b[i], g->k0[n]);
            s->c[i] = mixed(p, s->d[i], g->k1[n]);
            s->b[i] = q;
            s->d[i] = p;
        }
}

AVX2 INLINE void transposed_avx2(uint32_t kept[8][LINE*WORDS], int first_word, __m256i keep[WORDS]) {
    __m256i v[4], t[4];
    #pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {   /* the lower half of v[s] is row s, the upper half row 4 + s */
        v[s] = _mm256_castsi128_si256(_mm_loadu_si128((const void *)&kept[s][first_word]));
        v[s] = _mm256_inserti128_si256(v[s], _mm_loadu_si128((const void *)&kept[4 + s][first_word]), 1);
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        t[2*i] = _mm256_unpacklo_epi32(v[2*i], v[2*i + 1]);
        t[2*i + 1] = _mm256_unpackhi_epi32(v[2*i], v[2*i + 1]);
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        keep[2*i] = _mm256_unpacklo_epi64(t[i], t[2 + i]);
        keep[2*i + 1] = _mm256_unpackhi_epi64(t[i], t[2 + i]);
    }
}

AVX2 INLINE void split_256(__m256i kept, __m256i sign, uint32_t *plus, uint32_t *minus) {
    store_256(plus, _mm256_and_si256(kept, sign));
    store_256(minus, _mm256_andnot_si256(sign, kept));
}
AVX2 INLINE void generated_256(const generator *g, const rows *r, uint32_t block, __m256i word[2*WORDS]) {
    state_256 s;
    begin_256(r, column_of(g, block), &s);
    rounds_256(g, &s);
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        word[4*i] = joined(s.a + 2*i);
        word[4*i + 1] = joined(s.b + 2*i);
        word[4*i + 2] = joined(s.c + 2*i);
        word[4*i + 3] = joined(s.d + 2*i);
    }
}
AVX2 static void signs_avx2(const generator *g, const planes *p, uint32_t first, uint32_t line,
                            bits plus, bits minus) {
    const rows r = rows_of(g, first);
    row_words kept, sign;
    load_kept(p, first, line, kept);
    if (p->sign) load_rows(p->sign, p, first, line, sign);
    for (int b = 0; b < LINE*WORDS; b += WORDS) {
        __m256i word[2*WORDS], keep[2*WORDS];
        if (!p->sign) generated_256(g, &r, line*LINE + b/WORDS, word);
        #pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            transposed_avx2(kept + 8*i, b, keep + WORDS*i);
            if (p->sign) transposed_avx2(sign + 8*i, b, word + WORDS*i);
        }
        #pragma GCC unroll 8
        for (int i = 0; i < 2*WORDS; i++)
            split_256(keep[i], word[i], plus[b + i%4] + i/4*8, minus[b + i%4] + i/4*8);
    }
}

AVX2 INLINE __m256i nibble_256(__m256i v, int n) {   /* nibble n of each lane, at the bottom of it */
    if (n >= 4) v = _mm256_srli_epi32(v, 16);
    return n % 4 ? _mm256_mulhi_epu16(v, _mm256_set1_epi32(1 << (16 - 4*(n % 4)))) : v;
}
AVX2 INLINE __m256 fourth_256(__m256i v, int n) {    /* nibble n of each lane, at the top of it */
    return _mm256_castsi256_ps(n < 7 ? _mm256_slli_epi32(v, 28 - 4*n) : v);
}

AVX2 INLINE __m256 sum_256(const float *t, __m256 zero, __m256i index, __m256 fourth) {
    const __m256 three = _mm256_permutevar8x32_ps(_mm256_loadu_ps(t), index);
    const __m256 last = _mm256_broadcast_ss(t + 8);   /* the fourth input alone */
    return _mm256_add_ps(three, _mm256_blendv_ps(zero, last, fourth));
}
AVX2 INLINE __m256 difference_256(const float *t, __m256 zero, const __m256i index[2],
                                   const __m256 fourth[2]) {
    return _mm256_sub_ps(sum_256(t, zero, index[0], fourth[0]), sum_256(t, zero, index[1], fourth[1]));
}

AVX2 INLINE void sums_256(const uint32_t *plus, const uint32_t *minus, const int inputs, const table *tables,
                          __m256 zero, __m256 *sum) {
    #pragma GCC unroll 1
    for (int k = 0; k < WORDS; k++, plus += LANES, minus += LANES, tables += 8) {
        const __m256i p = load_256(plus), m = load_256(minus);
        #pragma GCC unroll 8
        for (int n = 0; n < 8; n++) {
            const __m256i index[2] = { nibble_256(p, n), nibble_256(m, n) };
            const __m256 fourth[2] = { fourth_256(p, n), fourth_256(m, n) };
            #pragma GCC unroll 4
            for (int j = 0; j < inputs; j++) {
                sum[j] = _mm256_add_ps(sum[j], difference_256(tables[j*QUADS + n], zero, index, fourth));
                __asm__ volatile("" : "+x"(sum[j]));
            }
        }
    }
}

AVX2 INLINE void rows_256(const uint32_t *plus, const uint32_t *minus, const int inputs, const table *tables,
                          target to) {
    __m256 sum[4], zero = _mm256_setzero_ps();
    float part[8];
    __asm__("" : "+x"(zero));
    #pragma GCC unroll 4
    for (int j = 0; j < inputs; j++) sum[j] = _mm256_setzero_ps();
    sums_256(plus, minus, inputs, tables, zero, sum);
    #pragma GCC unroll 4
    for (int j = 0; j < inputs; j++) {
        float *y = to.y + j*to.stride;
        _mm256_storeu_ps(part, sum[j]);
        for (int64_t i = 0; i < MIN(8, to.rows); i++) y[i] += part[i];
    }
}

AVX2 static void lookup_avx2(const bits *plus, const bits *minus, int block, int groups, int inputs,
                             const table *tables, target to) {
    for (int h = 0; h < 2*groups; h++, to.y += 8, to.rows -= 8) {
        const uint32_t *p = plus[h/2][block*WORDS] + h%2*8, *m = minus[h/2][block*WORDS] + h%2*8;
        if (inputs == 4) rows_256(p, m, 4, tables, to);
        else rows_256(p, m, 1, tables, to);
    }
}

AVX2 static void tables_avx2(const float *x, table *t) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 zero = _mm256_setzero_ps();
    __m256 bit[3];
    for (int i = 0; i < 3; i++) bit[i] = _mm256_castsi256_ps(_mm256_slli_epi32(lane, 31 - i));
    for (int q = 0; q < QUADS; q++, x += 4) {
        __m256 sum = zero;
        for (int i = 0; i < 3; i++)
            sum = _mm256_add_ps(sum, _mm256_blendv_ps(zero, _mm256_broadcast_ss(x + i), bit[i]));
        _mm256_storeu_ps(t[q], sum);
        _mm256_storeu_ps(t[q] + 8, _mm256_add_ps(sum, _mm256_broadcast_ss(x + 3)));
    }
}
#endif
