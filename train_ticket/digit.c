/* The engine: weights come from the seed while they are used, masks from their codes. An image comes row by
   row, and a stage makes its next rows as soon as the rows before it allow. So there is never more of most
   feature maps than a ring of a few rows. */
#include <stdint.h>
#if TT_ADAPTIVE
#include "adaptive.h"
#endif

#if TT_FLOAT
typedef float tt_value, tt_sum;
#else
typedef uint8_t tt_value;
typedef int32_t tt_sum;
#endif

#if TT_ARENA > 65535
typedef uint32_t tt_where;
#else
typedef uint16_t tt_where;
#endif

/* A linear layer or a convolution with its pooling and its ReLU. A feature map is planes of rows. */
typedef struct {
    uint32_t layer, code, code_size;        /* the generator's number of the layer; its part of tt_masks */
    tt_where in, out, scratch, sums;        /* places in the arena, in bytes; sums: of one kernel */
    uint16_t height, width, outputs, out_height, out_width;     /* of the input, then of the output */
    uint16_t in_rows, out_rows, step;       /* rows in the rings; rows of the output made at a time */
    uint16_t each, channels, fan_in;        /* outputs per group of channels; channels in the group */
    uint16_t across;                        /* sums in a line */
    uint8_t linear, image, coded, row;      /* image: it reads the image; row: columns per row of an image */
    uint8_t kernel_height, kernel_width, stride, padding, pool, pool_stride;
    uint8_t average, relu_first, relu, shift;
#if TT_FLOAT
    float unit;                             /* what whole numbers are multiplied by */
#endif
} tt_stage;

/* TABLES */
static uint32_t tt_arena[(TT_ARENA + 3)/4];
static uint16_t tt_made[TT_STAGES + 1];     /* rows so far: of the image, then of the output of each stage */
static tt_sum *tt_scores;                   /* the caller's */

static void *tt_place(uint32_t at) { return (uint8_t *)tt_arena + at; }

#if defined(__GNUC__)
#define TT_APART __attribute__((noinline))      /* a short loop of its own, with all registers */
#else
#define TT_APART
#endif

typedef struct {
    const tt_stage *stage;
    uint32_t words[4], row, column, bit;
#if TT_ADAPTIVE
    tt_model model;
    tt_coder coder;
#endif
} tt_reader;

static uint32_t tt_high(uint32_t a, uint32_t b) {       /* the upper half of a product */
    uint32_t low = (a & 0xFFFF)*(b & 0xFFFF), middle = (a >> 16)*(b & 0xFFFF);
    uint32_t other = (a & 0xFFFF)*(b >> 16) + (low >> 16) + (middle & 0xFFFF);
    return (a >> 16)*(b >> 16) + (middle >> 16) + (other >> 16);
}

static void tt_philox(tt_reader *r, uint32_t a) {       /* Philox4x32-10: the words of a block of a row */
    uint32_t b = r->row, c = r->stage->layer, d = TT_STREAM, k0 = TT_SEED_LOW, k1 = TT_SEED_HIGH;
    for (int round = 0; round < 10; round++) {
        uint32_t p = tt_high(a, 0xD2511F53), q = tt_high(c, 0xCD9E8D57), low = a*0xD2511F53;
        a = q ^ b ^ k0;
        b = c*0xCD9E8D57;
        c = p ^ d ^ k1;
        d = low;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    r->words[0] = a;
    r->words[1] = b;
    r->words[2] = c;
    r->words[3] = d;
}

static int tt_whole(const uint32_t *words, uint32_t at) {   /* a frozen weight as a whole number */
#if TT_STREAM == 0
    return (words[at >> 5] >> (at & 31) & 1) ? 1 : -1;
#elif TT_STREAM == 1
    return 2*(int)(words[at >> 2] >> 8*(at & 3) & 255) - 255;
#else
    uint32_t w = words[at];
    return (int)((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24)) - 510;
#endif
}

static void tt_open_layer(tt_reader *r, const tt_stage *s) {
    r->stage = s;
    r->bit = 8*s->code;
    r->row = (uint32_t)-1;
#if TT_ADAPTIVE
    tt_begin(&r->model, tt_place(s->scratch), s->coded ? s->fan_in : 0, s->row);
    tt_open(&r->coder, tt_masks + s->code, s->code_size);
#endif
}

static void tt_next_row(tt_reader *r) {
    r->row++;
    r->column = 0;
#if TT_ADAPTIVE
    tt_begin_row(&r->model);
#endif
}

static int tt_kept_bit(tt_reader *r) {      /* the next bit of a mask that is not coded */
    int kept = tt_masks[r->bit >> 3] >> (r->bit & 7) & 1;
    r->bit++;
    return kept;
}

static int tt_next(tt_reader *r) {      /* the next weight of the row, 0 where it is not kept */
    uint32_t at = r->column & (TT_PER_BLOCK - 1);
    if (!at) tt_philox(r, r->column/TT_PER_BLOCK);
    r->column++;
#if TT_ADAPTIVE
    if (r->stage->coded) {
        int whole = tt_whole(r->words, at);
        return tt_kept(&r->model, &r->coder, whole > 0 ? 1 : -1) ? whole : 0;
    }
#endif
    return tt_kept_bit(r) ? tt_whole(r->words, at) : 0;
}

static uint32_t tt_slot(uint32_t row, uint32_t rows) {     /* where a row is in a ring: row % rows */
    while (row >= rows) row -= rows;
    return row;
}

static void tt_store(const tt_stage *s, uint32_t at, tt_sum sum) {
    tt_value *out = tt_place(s->out);
#if TT_FLOAT
    sum *= s->unit;
#endif
    if (s->relu && sum < 0) sum = 0;
    if (s == &tt_stages[TT_STAGES - 1]) {
        tt_scores[at] = sum;
        return;
    }
#if !TT_FLOAT
    sum = (sum + ((tt_sum)1 << s->shift >> 1)) >> s->shift;
    if (sum > 255) sum = 255;
#endif
    out[at] = sum;
}

static void tt_linear(tt_reader *r) {
    const tt_stage *s = r->stage;
    for (uint32_t o = 0; o < s->outputs; o++) {
        const tt_value *in = tt_place(s->in), *end;
        tt_sum sum = 0;
        tt_next_row(r);
        for (uint32_t c = 0; c < s->channels; c++)
            for (end = in + s->height*s->width; in < end; in++) {
                int weight = tt_next(r);
                if (weight) sum += weight*((tt_sum)*in - TT_ZERO(s, c));
            }
        tt_store(s, o, sum);
    }
}

/* Values under one weight, added to a line of sums. */
TT_APART static void tt_add(tt_sum *sums, const tt_sum *end, const tt_value *in, int weight, int stride) {
    do {
        *sums += weight*(tt_sum)*in;
        in += stride;
    } while (++sums < end);
}

#if TT_PADDED
/* The same where a part of the values is beside the image; at: the place of the first one, which is y, x. */
static void tt_add_padded(const tt_stage *s, tt_sum *sums, const tt_value *in, int at, int weight, int y, int x,
                          tt_sum zero) {
    tt_sum *end = sums + s->across, beside = weight*zero;
    int outside = (unsigned)y >= s->height;
    for (; sums < end && (outside || x < 0); x += s->stride, at += s->stride) *sums++ += beside;
    while (sums < end && x + (end - 1 - sums)*s->stride >= s->width) *--end += beside;
    if (sums < end) tt_add(sums, end, in + at, weight, s->stride);
}
#endif

/* All of one kernel, added to `lines` rows of sums; y: the row of the input at the upper edge. Returns what is
   to be added to each sum, because the pixels count from the value that means 0. */
static tt_sum tt_kernel(tt_reader *r, const tt_value *in, uint32_t channel, int y, int lines) {
    const tt_stage *s = r->stage;
    int base = y < 0 ? 0 : y - (int)tt_slot(y, s->in_rows);
    tt_sum correction = 0;
    for (uint32_t c = channel; c < channel + s->channels; c++, in += s->in_rows*s->width)
        for (int top = y; top < y + s->kernel_height; top++)
            for (int x = -s->padding; x < s->kernel_width - s->padding; x++) {
                int weight = tt_next(r), row = top;
                tt_sum *sums = tt_place(s->sums), *end = sums + lines*s->across;
                if (!weight) continue;
                correction -= weight*TT_ZERO(s, c);
                for (; sums < end; sums += s->across, row += s->stride) {
                    int slot = row - base;
                    if (slot >= s->in_rows) slot -= s->in_rows;
#if TT_PADDED
                    tt_add_padded(s, sums, in, slot*s->width + x, weight, row, x, TT_ZERO(s, c));
#else
                    tt_add(sums, sums + s->across, in + slot*s->width + x, weight, s->stride);
#endif
                }
            }
    return correction;
}

static tt_sum tt_pooled(const tt_stage *s, const tt_sum *sums, tt_sum correction) {
    tt_sum best = 0;
    for (int dy = 0; dy < s->pool; dy++, sums += s->across)
        for (int dx = 0; dx < s->pool; dx++) {
            tt_sum sum = sums[dx] + correction;
            if (s->relu_first && sum < 0) sum = 0;
            if (s->average) best += sum;
            else if ((!dy && !dx) || sum > best) best = sum;
        }
    return best;
}

/* Rows `first` to `last` of the output. */
static void tt_convolution(tt_reader *r, uint32_t first, uint32_t last) {
    const tt_stage *s = r->stage;
    const tt_value *in = tt_place(s->in);
    uint32_t left = s->each, channel = 0;
    uint32_t lines = (last - first - 1)*s->pool_stride + s->pool;
    for (uint32_t o = 0; o < s->outputs; o++, left--) {
        tt_sum *sums = tt_place(s->sums);
        if (!left) {                        /* the next group of channels */
            left = s->each;
            channel += s->channels;
            in += s->channels*s->in_rows*s->width;
        }
        for (uint32_t i = 0; i < lines*s->across; i++) sums[i] = 0;
        tt_next_row(r);
        int top = (int)(first*s->pool_stride*s->stride) - s->padding;
        tt_sum correction = tt_kernel(r, in, channel, top, lines);
        for (uint32_t y = first; y < last; y++, sums += s->pool_stride*s->across) {
            uint32_t at = (o*s->out_rows + tt_slot(y, s->out_rows))*s->out_width;
            for (uint32_t x = 0; x < s->out_width; x++)
                tt_store(s, at + x, tt_pooled(s, sums + x*s->pool_stride, correction));
        }
    }
}

/* The next rows of a stage, if the rows before it are there. Returns how many. */
static uint32_t tt_make(int i) {
    tt_reader reader;
    const tt_stage *s = &tt_stages[i];
    int first = tt_made[i + 1], last = first + s->step < s->out_height ? first + s->step : s->out_height;
    int needed = ((last - 1)*s->pool_stride + s->pool - 1)*s->stride + s->kernel_height - s->padding;
    if (first == last || tt_made[i] < (needed < s->height ? needed : s->height)) return 0;
    tt_open_layer(&reader, s);
    if (s->linear) tt_linear(&reader);
    else tt_convolution(&reader, first, last);
    tt_made[i + 1] = last;
    return last - first;
}

/* Begin an image; its scores will be in `scores`. */
void digit_begin(tt_sum *scores) {
    tt_scores = scores;
    for (int i = 0; i <= TT_STAGES; i++) tt_made[i] = 0;
}

/* The next row of the image: TT_WIDTH bytes for each channel, `pitch` bytes from channel to channel. */
void digit_row(const uint8_t *row, uint32_t pitch) {
    const tt_stage *s = tt_stages;
    tt_value *in = tt_place(s->in);
    in += tt_slot(tt_made[0]++, s->in_rows)*TT_WIDTH;
    for (uint32_t c = 0; c < TT_CHANNELS; c++, row += pitch, in += s->in_rows*TT_WIDTH)
        for (uint32_t x = 0; x < TT_WIDTH; x++)
#if TT_FLOAT
            in[x] = (row[x]/255.f - tt_means[c])/tt_deviations[c];
#else
            in[x] = row[x];
#endif
    for (int i = TT_STAGES - 1; i >= 0 && tt_made[TT_STAGES] < tt_stages[TT_STAGES - 1].out_height; i--)
        if (tt_make(i)) i = TT_STAGES;      /* the last stage that can go on does */
}

/* The scores of the classes. image: TT_CHANNELS planes of bytes. */
void digit_scores(const uint8_t *image, tt_sum *scores) {
    digit_begin(scores);
    for (int y = 0; y < TT_HEIGHT; y++) digit_row(image + y*TT_WIDTH, TT_HEIGHT*TT_WIDTH);
}

/* The class of the largest score. */
int digit_best(const tt_sum *scores) {
    int best = 0;
    for (int i = 1; i < TT_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* The class of an image. */
int digit_class(const uint8_t *image) {
    tt_sum scores[TT_CLASSES];
    digit_scores(image, scores);
    return digit_best(scores);
}
