#pragma once
#include "kernels_avx512.h"
#include "kernels_neon.h"
typedef void steps_function(const generator *, int64_t first, int64_t rows, int64_t fan_in, float unit, float *w);

INLINE void steps_any(const generator *g, int64_t first, int64_t count, int64_t fan_in, float unit, float *w) {
    const int uniform = g->stream == 1, per_block = uniform ? 16 : 4;
    const rows r = rows_of(g, (uint32_t)first);
    for (int64_t block = 0; block*per_block < fan_in; block++) {
        uint32_t word[WORDS][LANES];
        float weight[16][LANES];
        words_of(g, &r, column_of(g, (uint32_t)block), word);
        if (uniform) for (int c = 0; c < 16; c++) for (int i = 0; i < LANES; i++)
            weight[c][i] = unit*(float)(2*(int)(word[c/4][i] >> 8*(c%4) & 255) - 255);
        else for (int c = 0; c < 4; c++) for (int i = 0; i < LANES; i++) {
            const uint32_t v = word[c][i];
            weight[c][i] = unit*(float)((int)((v & 255) + (v >> 8 & 255) + (v >> 16 & 255) + (v >> 24)) - 510);
        }
        const int64_t columns = MIN(per_block, fan_in - block*per_block);
        for (int64_t i = 0; i < MIN(LANES, count - first); i++) for (int64_t c = 0; c < columns; c++)
            w[(first + i)*fan_in + block*per_block + c] = weight[c][i];
    }
}
static void steps_portable(const generator *g, int64_t first, int64_t count, int64_t fan_in, float unit, float *w) { steps_any(g, first, count, fan_in, unit, w); }
#ifdef HAVE_X86
AVX2 static void steps_avx2(const generator *g, int64_t first, int64_t count, int64_t fan_in, float unit, float *w) { steps_any(g, first, count, fan_in, unit, w); }
AVX512 static void steps_avx512(const generator *g, int64_t first, int64_t count, int64_t fan_in, float unit, float *w) { steps_any(g, first, count, fan_in, unit, w); }
#endif

static void signed_rows(const generator *g, signs_function *signs, int64_t first, int64_t count, int64_t fan_in, float unit, float *w) {
    const planes all = { NULL, NULL, INT32_MAX, count };
    const rows r = rows_of(g, (uint32_t)first);
    bits plus, minus;
    for (int64_t line = 0; line*LINE_COLUMNS < fan_in; line++) {
        const int64_t columns = MIN(LINE_COLUMNS, fan_in - line*LINE_COLUMNS);
        signs(g, &r, &all, first, line, plus, minus);
        for (int64_t i = 0; i < MIN(LANES, count - first); i++) for (int64_t c = 0; c < columns; c++)
            w[(first + i)*fan_in + line*LINE_COLUMNS + c] = plus[c/32][i] >> c%32 & 1 ? unit : -unit;
    }
}
