/* Reads questions from standard input and answers each on every instruction set of this machine.
   Written first: the names of the instruction sets, a line each, and an empty line. */
#include "kernels.c"
#include <stdio.h>
#include <stdlib.h>

enum { LINEAR, PACKED, WEIGHTS };
typedef struct {
    int64_t kind, batch, fan_in, out, base;
    uint64_t seed;
    uint32_t layer, stream;
    float unit;
    int32_t threads;
} question;

static void *take(int64_t size) {
    void *to = malloc(size);
    if (fread(to, 1, size, stdin) != (size_t)size) exit(1);
    return to;
}

static void answer(const question *q, const float *x, const uint8_t *kept, const uint8_t *sign, float *y, int set) {
    if (q->kind == LINEAR)
        tt_linear(x, q->batch, q->fan_in, kept, q->out, q->seed, q->layer, q->unit, y, q->threads, set);
    else if (q->kind == PACKED)
        tt_linear_packed(x, q->batch, q->fan_in, kept, sign, q->out, q->unit, y, q->threads, set);
    else
        tt_weights(q->base, q->out, q->fan_in, q->seed, q->layer, q->stream, q->unit, y, q->threads, set);
}

int main(void) {
    question q;
    for (int set = 0; set <= tt_instructions(); set++) puts(tt_instruction_name(set));
    puts("");
    while (fread(&q, sizeof q, 1, stdin)) {
        const int64_t plane = q.kind == WEIGHTS ? 0 : q.out*((q.fan_in + 31)/32*4);
        const int64_t count = q.out*(q.kind == WEIGHTS ? q.fan_in : q.batch);
        float *x = take(q.kind == WEIGHTS ? 0 : q.batch*q.fan_in*sizeof *x);
        uint8_t *kept = take(plane), *sign = take(q.kind == PACKED ? plane : 0);
        float *y = malloc(count*sizeof *y);
        for (int set = 0; set <= tt_instructions(); set++) {
            answer(&q, x, kept, sign, y, set);
            fwrite(y, sizeof *y, count, stdout);
        }
        free(x);
        free(kept);
        free(sign);
        free(y);
    }
    return 0;
}
