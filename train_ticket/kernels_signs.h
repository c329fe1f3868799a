/* The weights kept with a plus, and those kept with a minus, for sixteen rows and 512 columns at a time */
#pragma once
#include "kernels_philox.h"
typedef uint32_t bits[LINE*WORDS][LANES];        /* 512 columns of sixteen rows: bits[word][row] */
typedef uint8_t row_bytes[LANES][LINE_BYTES];    /* the same bits as in memory, row by row */

/* Bit planes, packed by rows. kept == NULL: all weights are kept. sign == NULL: signs from the generator */
typedef struct { const uint8_t *kept, *sign; int64_t stride, rows; } planes;
typedef struct { const uint8_t *at; int64_t stride; } line_view;   /* sixteen rows of one line */
typedef void signs_function(const generator *, const rows *, const planes *, int64_t first, int64_t line,
                            bits plus, bits minus);

/* The number of blocks of a line that have columns */
INLINE int blocks_of(const planes *p, int64_t line) {
    return (int)MIN(LINE, (p->stride - line*LINE_BYTES + BLOCK/8 - 1)/(BLOCK/8));
}
/* A line of sixteen rows, in the plane itself where possible. Bits right of the last column belong to another
   row; their inputs are zeros. At the plane's end a copy, with zeros below the last row */
INLINE line_view view_of(const uint8_t *plane, const planes *p, int64_t first, int64_t line, row_bytes copy) {
    const int64_t offset = line*LINE_BYTES, count = MIN(LINE_BYTES, p->stride - offset);
    const uint8_t *source = plane + first*p->stride + offset;
    if ((first + LANES - 1)*p->stride + offset + LINE_BYTES <= p->rows*p->stride)
        return (line_view){ source, p->stride };
    memset(copy, 0, sizeof(row_bytes));
    for (int64_t i = 0; i < MIN(LANES, p->rows - first); i++) memcpy(copy[i], source + i*p->stride, count);
    return (line_view){ copy[0], LINE_BYTES };
}
INLINE line_view view_kept(const planes *p, int64_t first, int64_t line, row_bytes copy) {
    if (p->kept) return view_of(p->kept, p, first, line, copy);
    memset(copy, 255, sizeof(row_bytes));
    return (line_view){ copy[0], LINE_BYTES };
}
INLINE line_view view_sign(const planes *p, int64_t first, int64_t line, row_bytes copy) {
    return p->sign ? view_of(p->sign, p, first, line, copy) : (line_view){ NULL, 0 };
}

INLINE uint32_t word_of(const line_view *v, int row, int word) {
    uint32_t bits;
    memcpy(&bits, v->at + row*v->stride + 4*word, sizeof bits);
    return bits;
}
static void signs_portable(const generator *g, const rows *r, const planes *p, int64_t first, int64_t line,
                           bits plus, bits minus) {
    row_bytes copies[2];
    const line_view kept = view_kept(p, first, line, copies[0]), sign = view_sign(p, first, line, copies[1]);
    for (int w = 0; w < blocks_of(p, line)*WORDS; w++) {
        uint32_t made[WORDS][LANES];
        if (!sign.at && w % WORDS == 0) words_of(g, r, column_of(g, line*LINE + w/WORDS), made);
        for (int i = 0; i < LANES; i++) {
            const uint32_t keep = word_of(&kept, i, w);
            const uint32_t positive = sign.at ? word_of(&sign, i, w) : made[w % WORDS][i];
            plus[w][i] = keep & positive;
            minus[w][i] = keep & ~positive;
        }
    }
}
