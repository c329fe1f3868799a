/* NEON, 64-bit Arm: four rows in a register of words, sixteen in a register of bytes */
#pragma once
#include "kernels_lookup.h"
#ifdef HAVE_NEON
enum { FOURS = LANES/4 };
typedef struct { uint32x4_t a[FOURS], b[FOURS], c[FOURS], d[FOURS]; } state_neon;

/* The 64-bit products of four lanes, as their upper and lower halves */
INLINE void multiplied_neon(uint32x4_t v, uint32x2_t factor, uint32x4_t *upper, uint32x4_t *lower) {
    const uint32x4_t first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(v), factor));
    const uint32x4_t last = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(v), factor));
    *upper = vuzp2q_u32(first, last);
    *lower = vuzp1q_u32(first, last);
}
INLINE uint32x4_t mixed_neon(uint32x4_t upper, uint32x4_t other, uint32_t key) {
    return veorq_u32(veorq_u32(upper, other), vdupq_n_u32(key));
}
INLINE void begin_neon(const rows *r, column k, state_neon *s) {
    #pragma GCC unroll 4
    for (int i = 0; i < FOURS; i++) {
        const uint32x4_t a = veorq_u32(vld1q_u32(r->a + 4*i), vdupq_n_u32(k.a));
        uint32x4_t upper;
        multiplied_neon(a, vdup_n_u32(M1), &upper, &s->b[i]);
        s->a[i] = veorq_u32(upper, vdupq_n_u32(k.b));
        s->c[i] = veorq_u32(vld1q_u32(r->c + 4*i), vdupq_n_u32(k.c));
        s->d[i] = vdupq_n_u32(k.d);
    }
}
INLINE void rounds_neon(const generator *g, state_neon *s) {
    #pragma GCC unroll 7
    for (int n = 3; n < 10; n++)
        #pragma GCC unroll 4
        for (int i = 0; i < FOURS; i++) {
            uint32x4_t p, q, low_p, low_q;
            multiplied_neon(s->a[i], vdup_n_u32(M0), &p, &low_p);
            multiplied_neon(s->c[i], vdup_n_u32(M1), &q, &low_q);
            s->a[i] = mixed_neon(q, s->b[i], g->k0[n]);
            s->c[i] = mixed_neon(p, s->d[i], g->k1[n]);
            s->b[i] = low_q;
            s->d[i] = low_p;
        }
}

INLINE void generated_neon(const state_neon *s, int i, uint32x4_t word[WORDS]) {
    word[0] = s->a[i];
    word[1] = s->b[i];
    word[2] = s->c[i];
    word[3] = s->d[i];
}

/* Four words of four rows → a register for each word */
INLINE void transposed_neon(const line_view *v, int first, int block, uint32x4_t word[WORDS]) {
    uint32x4_t row[4], pair[4];
    #pragma GCC unroll 4
    for (int s = 0; s < 4; s++)
        row[s] = vreinterpretq_u32_u8(vld1q_u8(v->at + (first + s)*v->stride + block*(WORDS*4)));
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {   /* words 0 and 1 of rows i and 2 + i, then words 2 and 3 */
        pair[i] = vzip1q_u32(row[i], row[2 + i]);
        pair[2 + i] = vzip2q_u32(row[i], row[2 + i]);
    }
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        word[2*i] = vzip1q_u32(pair[2*i], pair[2*i + 1]);
        word[2*i + 1] = vzip2q_u32(pair[2*i], pair[2*i + 1]);
    }
}
INLINE void split_neon(const line_view *kept, const uint32x4_t sign[WORDS], int first, int block,
                       bits plus, bits minus) {
    uint32x4_t keep[WORDS];
    transposed_neon(kept, first, block, keep);
    #pragma GCC unroll 4
    for (int w = 0; w < WORDS; w++) {
        vst1q_u32(plus[block*WORDS + w] + first, vandq_u32(keep[w], sign[w]));
        vst1q_u32(minus[block*WORDS + w] + first, vbicq_u32(keep[w], sign[w]));
    }
}
static void signs_neon(const generator *g, const rows *r, const planes *p, int64_t first, int64_t line,
                       bits plus, bits minus) {
    row_bytes copies[2];
    const line_view kept = view_kept(p, first, line, copies[0]), sign = view_sign(p, first, line, copies[1]);
    for (int b = 0; b < blocks_of(p, line); b++) {
        state_neon s;
        if (!sign.at) {
            begin_neon(r, column_of(g, (uint32_t)line*LINE + b), &s);
            rounds_neon(g, &s);
        }
        #pragma GCC unroll 4
        for (int i = 0; i < FOURS; i++) {
            uint32x4_t word[WORDS];
            if (sign.at) transposed_neon(&sign, 4*i, b, word);
            else generated_neon(&s, i, word);
            split_neon(&kept, word, 4*i, b, plus, minus);
        }
    }
}

/* Here a table is stored as four planes of sixteen bytes: the first bytes of its floats, the second, … */
INLINE void planes_neon(const float32x4_t t[4], uint8_t *to) {
    uint8x16_t v[4], even[2], odd[2];
    for (int i = 0; i < 4; i++) v[i] = vreinterpretq_u8_f32(t[i]);
    for (int i = 0; i < 2; i++) {
        even[i] = vuzp1q_u8(v[2*i], v[2*i + 1]);
        odd[i] = vuzp2q_u8(v[2*i], v[2*i + 1]);
    }
    vst1q_u8(to, vuzp1q_u8(even[0], even[1]));
    vst1q_u8(to + 16, vuzp1q_u8(odd[0], odd[1]));
    vst1q_u8(to + 32, vuzp2q_u8(even[0], even[1]));
    vst1q_u8(to + 48, vuzp2q_u8(odd[0], odd[1]));
}
static void tables_neon(const float *x, table *t) {
    for (int q = 0; q < QUADS; q++, x += 4) {
        const float two[4] = { 0, x[0], x[1], x[0] + x[1] };
        float32x4_t sum[4] = { vld1q_f32(two) };
        sum[1] = vaddq_f32(sum[0], vdupq_n_f32(x[2]));
        sum[2] = vaddq_f32(sum[0], vdupq_n_f32(x[3]));
        sum[3] = vaddq_f32(sum[1], vdupq_n_f32(x[3]));
        planes_neon(sum, (uint8_t *)t[q]);
    }
}

/* Sixteen rows' entries: one byte of each from every plane, put together */
INLINE void values_neon(const uint8x16_t plane[4], uint8x16_t index, float32x4_t value[FOURS]) {
    uint8x16_t byte[4];
    uint16x8_t low[2], high[2];
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) byte[i] = vqtbl1q_u8(plane[i], index);
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        low[i] = vreinterpretq_u16_u8(vzip1q_u8(byte[2*i], byte[2*i + 1]));
        high[i] = vreinterpretq_u16_u8(vzip2q_u8(byte[2*i], byte[2*i + 1]));
    }
    value[0] = vreinterpretq_f32_u16(vzip1q_u16(low[0], low[1]));
    value[1] = vreinterpretq_f32_u16(vzip2q_u16(low[0], low[1]));
    value[2] = vreinterpretq_f32_u16(vzip1q_u16(high[0], high[1]));
    value[3] = vreinterpretq_f32_u16(vzip2q_u16(high[0], high[1]));
}
/* The empty asm keeps the compiler from moving all look-ups before all additions: too many registers */
INLINE void add_neon(float32x4_t sum[FOURS], const float *t, uint8x16_t plus, uint8x16_t minus) {
    uint8x16_t plane[4];
    float32x4_t p[FOURS], m[FOURS];
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) plane[i] = vld1q_u8((const uint8_t *)t + 16*i);
    values_neon(plane, plus, p);
    values_neon(plane, minus, m);
    #pragma GCC unroll 4
    for (int i = 0; i < FOURS; i++) {
        sum[i] = vaddq_f32(sum[i], vsubq_f32(p[i], m[i]));
        __asm__ volatile("" : "+w"(sum[i]));
    }
}
/* vld4q_u8 separates the bytes of sixteen words: register i has eight columns of all rows, two nibbles */
INLINE void sums_neon(const bits plus, const bits minus, int block, const int inputs, const table *tables,
                      float32x4_t sum[][FOURS]) {
    for (int k = block*WORDS; k < (block + 1)*WORDS; k++, tables += 8) {
        const uint8x16x4_t p = vld4q_u8((const uint8_t *)plus[k]), m = vld4q_u8((const uint8_t *)minus[k]);
        #pragma GCC unroll 8
        for (int n = 0; n < 8; n++) {
            const uint8x16_t low = vdupq_n_u8(15), of_p = p.val[n/2], of_m = m.val[n/2];
            const uint8x16_t a = n%2 ? vshrq_n_u8(of_p, 4) : vandq_u8(of_p, low);
            const uint8x16_t b = n%2 ? vshrq_n_u8(of_m, 4) : vandq_u8(of_m, low);
            #pragma GCC unroll 4
            for (int j = 0; j < inputs; j++) add_neon(sum[j], tables[j*QUADS + n], a, b);
        }
    }
}
INLINE void rows_neon(const bits plus, const bits minus, int block, const int inputs, const table *tables,
                      target to) {
    float32x4_t sum[4][FOURS];
    float part[LANES];
    for (int i = 0; i < 4*FOURS; i++) sum[i/FOURS][i%FOURS] = vdupq_n_f32(0);
    sums_neon(plus, minus, block, inputs, tables, sum);
    #pragma GCC unroll 4
    for (int j = 0; j < inputs; j++) {
        for (int i = 0; i < FOURS; i++) vst1q_f32(part + 4*i, sum[j][i]);
        add_to(to, 0, j, part);
    }
}
static void lookup_neon(const bits *plus, const bits *minus, int block, int groups, int inputs,
                        const table *tables, target to) {
    for (int h = 0; h < groups; h++, to.y += LANES, to.rows -= LANES)
        if (inputs == 4) rows_neon(plus[h], minus[h], block, 4, tables, to);
        else rows_neon(plus[h], minus[h], block, 1, tables, to);
}
#endif
