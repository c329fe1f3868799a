/* A binary range coder for masks that learns each bit's probability from the bits before it.
   Whole numbers only, so that every machine and the Python reference agree. Freestanding C99. */
#pragma once
#include <stdint.h>

/* One term of the logistic model: its weight in 1/4096, its learning rate in 1/65536. */
typedef struct { int16_t weight; uint16_t rate; } tt_belief;

enum { TT_BIAS, TT_ROW, TT_SIGN, TT_BAND, TT_NEAR, TT_SHARED = TT_NEAR + 10 };

#ifndef TT_PAST
#define TT_PAST 512                 /* a power of two above 2·width + 1 */
#endif

typedef struct {
    tt_belief shared[TT_SHARED], *columns;      /* columns: one for each column of the layer */
    int8_t active[TT_SHARED], past[TT_PAST];    /* past: the row so far, -1, 0 or +1 for each weight */
    int16_t offsets[10];                        /* of the nearby weights, in columns back */
    int width, near;                            /* columns that make a row of an image; 0: none */
    int count;                                  /* active terms: a term, or ~term where its input is -1 */
    uint32_t column, across, noise;             /* across: the column within the image */
} tt_model;

typedef struct { uint32_t low, high, code; const uint8_t *next, *end; } tt_coder;

/* 65536/(1 + exp(i/2)) */
static const uint16_t tt_logistic[26] = {
    32768, 24743, 17625, 11955, 7812, 4971, 3108, 1921, 1179, 720, 439, 267, 162, 98, 60, 36, 22, 13,
    8, 5, 3, 2, 1, 1, 1, 1};

/* The nearby weights: rows of the image up, and columns back. */
static const int8_t tt_offsets[10][2] = {
    {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, -1}, {2, 0}, {1, 2}, {1, -2}, {2, 1}, {2, -1}};

static void tt_forget(tt_belief *belief, uint16_t rate) {
    belief->weight = 0;
    belief->rate = rate;
}

static void tt_begin(tt_model *m, tt_belief *columns, uint32_t fan_in, int width) {
    m->columns = columns;
    m->width = width;
    m->near = width ? 10 : 2;
    for (int j = 0; j < 10; j++) m->offsets[j] = tt_offsets[j][0]*width + tt_offsets[j][1];
    m->noise = 0;
    for (uint32_t c = 0; c < fan_in; c++) tt_forget(&columns[c], 32768);
    for (int j = TT_NEAR; j < TT_SHARED; j++) tt_forget(&m->shared[j], 8192);
    tt_forget(&m->shared[TT_BIAS], 65000);
}

static void tt_begin_row(tt_model *m) {
    m->column = m->across = 0;
    for (int i = 0; i < TT_PAST; i++) m->past[i] = 0;
    tt_forget(&m->shared[TT_ROW], 65000);
    tt_forget(&m->shared[TT_SIGN], 4096);
}

static uint32_t tt_squash(int32_t logit) {      /* in 1/4096 → probability in 1/65536, 1…65535 */
    int32_t size = logit < 0 ? -logit : logit;
    if (size > 49151) size = 49151;
    const uint16_t *at = &tt_logistic[size >> 11];
    uint32_t p = at[0] - (((uint32_t)(at[0] - at[1])*(size & 2047)) >> 11);
    return logit < 0 ? p : 65536 - p;
}

static void tt_activate(tt_model *m, int term, int input) {
    m->active[m->count++] = input < 0 ? ~term : term;
}

/* The probability that the next weight, of this sign, is kept. */
static uint32_t tt_predict(tt_model *m, int sign) {
    int32_t logit = m->columns[m->column].weight;
    if (m->width && !m->across) tt_forget(&m->shared[TT_BAND], 16384);
    m->count = 0;
    tt_activate(m, TT_BIAS, 1);
    tt_activate(m, TT_ROW, 1);
    tt_activate(m, TT_SIGN, sign);
    if (m->width) tt_activate(m, TT_BAND, sign);
    for (int j = 0; j < m->near; j++) {
        int input = m->past[(m->column - m->offsets[j]) & (TT_PAST - 1)];
        if (input) tt_activate(m, TT_NEAR + j, input*sign);
    }
    for (int i = 0; i < m->count; i++) {
        int term = m->active[i];
        logit += term < 0 ? -m->shared[~term].weight : m->shared[term].weight;
    }
    return tt_squash(logit);
}

/* A step of Newton's method on one term; the noise makes rounding right on average. */
static void tt_step(tt_belief *b, int32_t error, uint32_t variance, uint32_t noise) {
    int32_t w = b->weight + ((error*b->rate + (int32_t)(noise << 3)) >> 19);
    b->weight = w > 32767 ? 32767 : w < -32767 ? -32767 : w;
    uint32_t r = b->rate - ((b->rate*((b->rate*variance) >> 16) + noise) >> 16);
    b->rate = r < 512 ? 512 : r;
}

static void tt_learn(tt_model *m, int sign, int kept, uint32_t p) {
    int32_t error = kept ? (int32_t)(65536 - p) >> 1 : -(int32_t)p >> 1;
    uint32_t variance = (p*(65536 - p)) >> 16;
    m->noise = (m->noise + 0x9E37) & 0xFFFF;
    for (int i = 0; i < m->count; i++) {
        int term = m->active[i];
        tt_step(&m->shared[term < 0 ? ~term : term], term < 0 ? -error : error, variance, m->noise);
    }
    tt_step(&m->columns[m->column], error, variance, m->noise);
    m->past[m->column & (TT_PAST - 1)] = kept ? sign : 0;
    m->column++;
    if (++m->across == (uint32_t)m->width) m->across = 0;
}

static uint32_t tt_split(const tt_coder *c, uint32_t p) {
    uint32_t range = c->high - c->low;
    return c->low + (range >> 16)*p + (((range & 0xFFFF)*p) >> 16);
}

static void tt_shift(tt_coder *c) {             /* beyond the last byte there are zeros */
    c->low <<= 8;
    c->high = c->high << 8 | 255;
    c->code = c->code << 8 | (c->next < c->end ? *c->next++ : 0);
}

static void tt_open(tt_coder *c, const uint8_t *data, uint32_t size) {
    c->code = 0;
    c->next = data;
    c->end = data + size;
    c->low = 0;
    c->high = 0;
    for (int i = 0; i < 4; i++) tt_shift(c);
}

static void tt_narrow(tt_coder *c, uint32_t p, int kept) {
    uint32_t split = tt_split(c, p);
    if (kept) c->high = split;
    else c->low = split + 1;
}

/* Whether the next weight, of this sign (-1 or +1), is kept. */
static int tt_kept(tt_model *m, tt_coder *c, int sign) {
    uint32_t p = tt_predict(m, sign);
    int kept = c->code <= tt_split(c, p);
    tt_narrow(c, p, kept);
    while (!((c->low ^ c->high) >> 24)) tt_shift(c);
    tt_learn(m, sign, kept, p);
    return kept;
}
