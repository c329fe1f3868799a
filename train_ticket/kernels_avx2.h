/* AVX2: eight rows in a register */
#pragma once
#include "kernels_lookup.h"
#ifdef HAVE_X86
#define AVX2 __attribute__((target("avx2,fma")))
typedef struct { __m256i a[4], b[4], c[4], d[4]; } state_256;   /* even and odd rows 0 to 7, then 8 to 15 */

AVX2 INLINE __m256i load_256(const uint32_t *v) { return _mm256_loadu_si256((const void *)v); }

AVX2 INLINE __m256i upper_256(__m256i v) { return _mm256_srli_epi64(v, 32); }
AVX2 INLINE __m256i mixed(__m256i product, __m256i other, uint32_t key) {
    return _mm256_xor_si256(_mm256_xor_si256(upper_256(product), other), _mm256_set1_epi32(key));
}
AVX2 INLINE __m256i joined(const __m256i v[2]) {   /* even rows, odd rows → eight rows */
    return _mm256_blend_epi32(v[0], _mm256_slli_epi64(v[1], 32), 0xAA);
}

AVX2 INLINE void begin_256(const rows *r, column k, state_256 *s) {
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m256i a = _mm256_xor_si256(load_256(r->a + i/2*8), _mm256_set1_epi32(k.a));
        const __m256i c = _mm256_xor_si256(load_256(r->c + i/2*8), _mm256_set1_epi32(k.c));
        s->b[i] = _mm256_mul_epu32(i%2 ? upper_256(a) : a, _mm256_set1_epi64x(M1));
        s->a[i] = _mm256_xor_si256(upper_256(s->b[i]), _mm256_set1_epi32(k.b));
        s->c[i] = i%2 ? upper_256(c) : c;
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

/* Four words of eight rows → a register for each word */
AVX2 INLINE void transposed_256(const line_view *v, int first, int block, __m256i word[WORDS]) {
    __m256i row[4], pair[4];
    #pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {   /* rows s and 4 + s */
        const uint8_t *from = v->at + (first + s)*v->stride + block*(WORDS*4);
        row[s] = _mm256_castsi128_si256(_mm_loadu_si128((const void *)from));
        row[s] = _mm256_inserti128_si256(row[s], _mm_loadu_si128((const void *)(from + 4*v->stride)), 1);
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        pair[2*i] = _mm256_unpacklo_epi32(row[2*i], row[2*i + 1]);
        pair[2*i + 1] = _mm256_unpackhi_epi32(row[2*i], row[2*i + 1]);
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        word[2*i] = _mm256_unpacklo_epi64(pair[i], pair[2 + i]);
        word[2*i + 1] = _mm256_unpackhi_epi64(pair[i], pair[2 + i]);
    }
}

AVX2 INLINE void split_256(__m256i kept, __m256i sign, uint32_t *plus, uint32_t *minus) {
    _mm256_storeu_si256((void *)plus, _mm256_and_si256(kept, sign));
    _mm256_storeu_si256((void *)minus, _mm256_andnot_si256(sign, kept));
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
AVX2 static void signs_avx2(const generator *g, const rows *r, const planes *p, int64_t first,
                            int64_t line, bits plus, bits minus) {
    row_bytes copies[2];
    const line_view kept = view_kept(p, first, line, copies[0]), sign = view_sign(p, first, line, copies[1]);
    for (int b = 0; b < blocks_of(p, line); b++) {
        __m256i word[2*WORDS], keep[2*WORDS];
        if (!sign.at) generated_256(g, r, (uint32_t)line*LINE + b, word);
        #pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            transposed_256(&kept, 8*i, b, keep + WORDS*i);
            if (sign.at) transposed_256(&sign, 8*i, b, word + WORDS*i);
        }
        #pragma GCC unroll 8
        for (int i = 0; i < 2*WORDS; i++)
            split_256(keep[i], word[i], plus[b*WORDS + i%4] + i/4*8, minus[b*WORDS + i%4] + i/4*8);
    }
}

/* Nibble n of each lane in its lowest bits, of which vpermps reads three. Most shifts are written as
   multiplications: permutations and additions use the ports of the shifts, and the multiplier is free */
AVX2 INLINE __m256i nibble_256(__m256i v, int n) {
    if (n >= 4) v = _mm256_srli_epi32(v, 16);
    return n % 4 ? _mm256_mulhi_epu16(v, _mm256_set1_epi32(1 << (16 - 4*(n % 4)))) : v;
}
/* The same with its fourth bit at the top of the lane, which is the bit that vblendvps reads */
AVX2 INLINE __m256i fourth_256(__m256i v, int n) { return n < 7 ? _mm256_slli_epi32(v, 28 - 4*n) : v; }

/* value where the highest bit is set, else 0. In assembly: compilers turn the intrinsic into a comparison */
AVX2 INLINE __m256 where_256(__m256i highest, __m256 value) {
    __m256 chosen;
    __asm__("vblendvps %2, %1, %3, %0" : "=x"(chosen) : "x"(value), "x"(highest), "x"(_mm256_setzero_ps()));
    return chosen;
}
/* The table's upper half is the lower one plus the fourth input, with the same rounding */
AVX2 INLINE __m256 sum_256(const float *t, __m256i three, __m256i fourth) {
    return _mm256_add_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(t), three),
                         where_256(fourth, _mm256_broadcast_ss(t + 8)));
}
/* The sums of eight rows for one input or four. p·1 - m is p - m, on a port that multiplies. The empty asm
   keeps the compiler from moving all permutations before all additions: too many registers */
AVX2 INLINE void sums_256(const uint32_t *plus, const uint32_t *minus, const int inputs, const table *tables,
                          __m256 *sum) {
    #pragma GCC unroll 1
    for (int k = 0; k < WORDS; k++, plus += LANES, minus += LANES, tables += 8) {
        const __m256i p = load_256(plus), m = load_256(minus);
        #pragma GCC unroll 8
        for (int n = 0; n < 8; n++) {
            const __m256i three[2] = { nibble_256(p, n), nibble_256(m, n) };
            const __m256i fourth[2] = { fourth_256(p, n), fourth_256(m, n) };
            #pragma GCC unroll 4
            for (int j = 0; j < inputs; j++) {
                const float *t = tables[j*QUADS + n];
                const __m256 positive = sum_256(t, three[0], fourth[0]);
                const __m256 negative = sum_256(t, three[1], fourth[1]);
                sum[j] = _mm256_add_ps(sum[j], _mm256_fmsub_ps(positive, _mm256_set1_ps(1), negative));
                __asm__ volatile("" : "+x"(sum[j]));
            }
        }
    }
}
AVX2 INLINE void rows_256(const uint32_t *plus, const uint32_t *minus, const int inputs, const table *tables,
                          target to) {
    __m256 sum[4];
    float part[8];
    for (int j = 0; j < inputs; j++) sum[j] = _mm256_setzero_ps();
    sums_256(plus, minus, inputs, tables, sum);
    #pragma GCC unroll 4
    for (int j = 0; j < inputs; j++, to.y += to.stride) {
        if (to.rows >= 8) {
            _mm256_storeu_ps(to.y, _mm256_add_ps(_mm256_loadu_ps(to.y), sum[j]));
            continue;
        }
        _mm256_storeu_ps(part, sum[j]);
        for (int64_t i = 0; i < to.rows; i++) to.y[i] += part[i];
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
