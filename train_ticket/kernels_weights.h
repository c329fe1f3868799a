/* The weights themselves: a sign from each bit, a uniform weight from a byte, a normal one from four bytes */
#pragma once
#include "kernels_avx512.h"
#include "kernels_neon.h"
enum { SIGNED, UNIFORM, NORMAL };   /* the generator's streams */
typedef struct { int64_t first, count, fan_in; float unit, *w; } strip;   /* rows of w [count, fan_in] */

/* Column c of a block, in units: an odd number from -255 to 255, or a number from -510 to 510 */
INLINE int step(const uint32_t word[WORDS][LANES], int uniform, int c, int i) {
    const uint32_t v = word[uniform ? c/4 : c][i];
    if (uniform) return 2*(int)(v >> 8*(c%4) & 255) - 255;
    return (int)((v & 255) + (v >> 8 & 255) + (v >> 16 & 255) + (v >> 24)) - 510;
}
static void uniform_or_normal_rows(const generator *g, const strip *s) {
    const int uniform = g->stream == UNIFORM, per_block = uniform ? 16 : 4;
    const rows r = rows_of(g, (uint32_t)s->first);
    for (int64_t start = 0; start < s->fan_in; start += per_block) {
        const int64_t columns = MIN(per_block, s->fan_in - start);
        uint32_t word[WORDS][LANES];
        float weight[16][LANES];
        words_of(g, &r, column_of(g, (uint32_t)(start/per_block)), word);
        for (int c = 0; c < per_block; c++)
            for (int i = 0; i < LANES; i++) weight[c][i] = s->unit*(float)step(word, uniform, c, i);
        for (int64_t i = 0; i < MIN(LANES, s->count - s->first); i++)
            for (int64_t c = 0; c < columns; c++) s->w[(s->first + i)*s->fan_in + start + c] = weight[c][i];
    }
}

/* A clear bit flips the sign. No branch: random bits can't be predicted */
INLINE float signed_weight(float unit, uint32_t word, int64_t column) {
    uint32_t bits;
    memcpy(&bits, &unit, sizeof bits);
    bits ^= (~word >> column%32 & 1) << 31;
    memcpy(&unit, &bits, sizeof bits);
    return unit;
}
static void signed_rows(const generator *g, signs_function *signs, const strip *s) {
    const planes all = { NULL, NULL, (s->fan_in + 31)/32*4, s->count };
    const rows r = rows_of(g, (uint32_t)s->first);
    bits plus, minus;
    for (int64_t line = 0, start = 0; start < s->fan_in; line++, start += LINE_COLUMNS) {
        const int64_t columns = MIN(LINE_COLUMNS, s->fan_in - start);
        signs(g, &r, &all, s->first, line, plus, minus);
        for (int64_t i = 0; i < MIN(LANES, s->count - s->first); i++) {
            float *w = s->w + (s->first + i)*s->fan_in + start;
            for (int64_t c = 0; c < columns; c++) w[c] = signed_weight(s->unit, plus[c/32][i], c);
        }
    }
}
