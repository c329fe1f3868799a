#pragma once
#include "kernels_avx2.h"
#ifdef HAVE_X86
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define JOIN(v) _mm512_mask_shuffle_epi32((v)[0], 0xAAAA, (v)[1], (_MM_PERM_ENUM)0xA0)   /* even rows, odd rows → sixteen rows */

AVX512 INLINE void words_avx512(const generator *g, __m512i row_a, __m512i row_c, const column *k, __m512i word[2*WORDS]) {
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1);
    __m512i a[4], b[4], c[4], d[4], p, q;
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {   /* two blocks, even and odd rows of each */
        __m512i start = _mm512_xor_si512(row_a, _mm512_set1_epi32(k[i/2].a));
        c[i] = _mm512_xor_si512(row_c, _mm512_set1_epi32(k[i/2].c));
        if (i % 2) { start = _mm512_srli_epi64(start, 32); c[i] = _mm512_srli_epi64(c[i], 32); }
        b[i] = _mm512_mul_epu32(start, m1);
        a[i] = _mm512_xor_si512(_mm512_srli_epi64(b[i], 32), _mm512_set1_epi32(k[i/2].b));
        d[i] = _mm512_set1_epi32(k[i/2].d);
    }
    #pragma GCC unroll 7
    for (int round = 3; round < 10; round++) {
        const __m512i k0 = _mm512_set1_epi32(g->k0[round]), k1 = _mm512_set1_epi32(g->k1[round]);
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            p = _mm512_mul_epu32(a[i], m0); q = _mm512_mul_epu32(c[i], m1);
            a[i] = XOR3(_mm512_srli_epi64(q, 32), b[i], k0); b[i] = q;
            c[i] = XOR3(_mm512_srli_epi64(p, 32), d[i], k1); d[i] = p;
        }
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) { word[4*i] = JOIN(a + 2*i); word[4*i + 1] = JOIN(b + 2*i); word[4*i + 2] = JOIN(c + 2*i); word[4*i + 3] = JOIN(d + 2*i); }
}

AVX512 INLINE void transposed(uint32_t kept[LANES][LINE*WORDS], int first_word, __m512i keep[WORDS]) {
    __m512i v[4], t[4];
    #pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {   /* 128-bit lane l of v[s] is row 4·l + s */
        v[s] = _mm512_castsi128_si512(_mm_load_si128((const void *)&kept[s][first_word]));
        v[s] = _mm512_mask_broadcast_i32x4(v[s], 0x00F0, _mm_load_si128((const void *)&kept[4 + s][first_word]));
        v[s] = _mm512_mask_broadcast_i32x4(v[s], 0x0F00, _mm_load_si128((const void *)&kept[8 + s][first_word]));
        v[s] = _mm512_mask_broadcast_i32x4(v[s], 0xF000, _mm_load_si128((const void *)&kept[12 + s][first_word]));
    }
    t[0] = _mm512_unpacklo_epi32(v[0], v[1]); t[1] = _mm512_unpackhi_epi32(v[0], v[1]);
    t[2] = _mm512_unpacklo_epi32(v[2], v[3]); t[3] = _mm512_unpackhi_epi32(v[2], v[3]);
    keep[0] = _mm512_unpacklo_epi64(t[0], t[2]); keep[1] = _mm512_unpackhi_epi64(t[0], t[2]);
    keep[2] = _mm512_unpacklo_epi64(t[1], t[3]); keep[3] = _mm512_unpackhi_epi64(t[1], t[3]);
}
AVX512 static void signs_avx512(const generator *g, const planes *p, uint32_t first, uint32_t line,
                                bits plus, bits minus) {
    const rows r = rows_of(g, first);
    const __m512i row_a = _mm512_loadu_si512(r.a), row_c = _mm512_loadu_si512(r.c);
    row_words kept __attribute__((aligned(64))), sign __attribute__((aligned(64)));
    load_kept(p, first, line, kept);
    if (p->sign) load_rows(p->sign, p, first, line, sign);
    for (int b = 0; b < LINE; b += 2) {
        const column k[2] = { column_of(g, line*LINE + b), column_of(g, line*LINE + b + 1) };
        __m512i word[2*WORDS], keep[2*WORDS];
        if (!p->sign) words_avx512(g, row_a, row_c, k, word);
        #pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            transposed(kept, (b + i)*WORDS, keep + i*WORDS);
            if (p->sign) transposed(sign, (b + i)*WORDS, word + i*WORDS);
        }
        #pragma GCC unroll 8
        for (int w = 0; w < 2*WORDS; w++) {
            _mm512_storeu_si512(plus[b*WORDS + w], _mm512_and_si512(keep[w], word[w]));
            _mm512_storeu_si512(minus[b*WORDS + w], _mm512_andnot_si512(word[w], keep[w]));
        }
    }
}

AVX512 INLINE __m512i nibble(__m512i v, int n) {   /* nibble n of each lane, at the bottom of it */
    if (n >= 4) v = _mm512_srli_epi32(v, 16);
    return n % 4 ? _mm512_mulhi_epu16(v, _mm512_set1_epi32(1 << (16 - 4*(n % 4)))) : v;
}
AVX512 INLINE void lookup_512(const bits *plus, const bits *minus, int block, const int groups, const int inputs, const table *tables, target to) {
    __m512 sum[4][4];
    #pragma GCC unroll 4
    for (int h = 0; h < groups; h++)
        #pragma GCC unroll 4
        for (int j = 0; j < inputs; j++) sum[h][j] = _mm512_setzero_ps();
    #pragma GCC unroll 1
    for (int k = 0; k < WORDS; k++) {
        __m512i p[4], m[4], pn[4], mn[4];
        #pragma GCC unroll 4
        for (int h = 0; h < groups; h++) { p[h] = _mm512_loadu_si512(plus[h][block*WORDS + k]); m[h] = _mm512_loadu_si512(minus[h][block*WORDS + k]); }
        #pragma GCC unroll 8
        for (int n = 0; n < 8; n++) {
            #pragma GCC unroll 4
            for (int h = 0; h < groups; h++) { pn[h] = nibble(p[h], n); mn[h] = nibble(m[h], n); }
            #pragma GCC unroll 4
            for (int j = 0; j < inputs; j++) {
                const __m512 t = _mm512_loadu_ps(tables[j*QUADS + k*8 + n]);
                #pragma GCC unroll 4
                for (int h = 0; h < groups; h++) {
                    sum[h][j] = _mm512_add_ps(sum[h][j], _mm512_sub_ps(_mm512_permutexvar_ps(pn[h], t), _mm512_permutexvar_ps(mn[h], t)));
                    __asm__ volatile("" : "+v"(sum[h][j]));
                }
            }
        }
    }
    #pragma GCC unroll 4
    for (int h = 0; h < groups; h++) {
        const int64_t left = to.rows - h*LANES;
        const __mmask16 rows = left >= LANES ? 0xFFFF : (__mmask16)((1u << left) - 1);
        #pragma GCC unroll 4
        for (int j = 0; j < inputs; j++) {
            float *y = to.y + j*to.stride + h*LANES;
            _mm512_mask_storeu_ps(y, rows, _mm512_add_ps(_mm512_maskz_loadu_ps(rows, y), sum[h][j]));
        }
    }
}
AVX512 static void lookup_avx512(const bits *plus, const bits *minus, int block, int groups, int inputs, const table *tables, target to) {
    if (inputs == 1 && groups == 4) { lookup_512(plus, minus, block, 4, 1, tables, to); return; }
    for (int h = 0; h < groups; h++, plus++, minus++, to.y += LANES, to.rows -= LANES)
        if (inputs == 4) lookup_512(plus, minus, block, 1, 4, tables, to);
        else lookup_512(plus, minus, block, 1, 1, tables, to);
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
