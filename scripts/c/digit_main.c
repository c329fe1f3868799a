/* Classifies the images on standard input, by Linux's system calls alone; qemu runs it for any processor. */
#include "digit.c"

#define IMAGE (TT_CHANNELS*TT_PLANE)

static long call(long number, long a, const void *b, long c) {
#if defined(__arm__)
    register long r7 __asm__("r7") = number, r0 __asm__("r0") = a, r2 __asm__("r2") = c;
    register const void *r1 __asm__("r1") = b;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return r0;
#else
    register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a2 __asm__("a2") = c;
    register const void *a1 __asm__("a1") = b;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
#endif
}

#if defined(__arm__)
enum { READ = 3, WRITE = 4, EXIT = 1 };
#else
enum { READ = 63, WRITE = 64, EXIT = 93 };
#endif

static int read_image(uint8_t *image) {
    for (long done = 0, more; done < IMAGE; done += more)
        if ((more = call(READ, 0, image + done, IMAGE - done)) <= 0) return 0;
    return 1;
}

/* What gcc may call for a loop that copies or clears. */
void *memset(void *at, int value, unsigned long size) {
    for (volatile uint8_t *p = at; size--; p++) *p = value;
    return at;
}

void *memcpy(void *to, const void *from, unsigned long size) {
    const uint8_t *q = from;
    for (volatile uint8_t *p = to; size--; p++) *p = *q++;
    return to;
}

void _start(void) {
    static uint8_t image[IMAGE];
    while (read_image(image)) {
        char line[2] = {'0' + digit_class(image), '\n'};
        call(WRITE, 1, line, 2);
    }
    call(EXIT, 0, 0, 0);
}
