/* The clock, and what is measured with it: warm-up, samples, memory, operators. Part of runner.c. */
#include <stdlib.h>
#include <time.h>

#include "session.h"

enum { CLOCK_STEPS = 20 };
/* A warm-up until times settle, as in worker.py. */
enum { WINDOW_CALLS = 5, WARMUP_CALLS = 100000 };
static const int64_t WINDOW_NS = 100000000, WARMUP_NS = 10000000000;
static const double SETTLED = 0.03;
/* How long the calls for the times by operator may take together. */
static const int64_t OPERATOR_NS = 5000000000;

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int64_t clock_step_ns(void)
{
    int64_t smallest = INT64_MAX;
    for (int i = 0; i < 200; i++) {
        int64_t start = now_ns(), now = start;
        while (now == start)
            now = now_ns();
        if (now - start < smallest)
            smallest = now - start;
    }
    return smallest;
}

static int64_t peak_memory_bytes(void)
{
    /* Not getrusage(): its figure outlives exec, and would be that of what started us. */
    char line[256];
    long kib = 0;
    FILE *in = fopen("/proc/self/status", "r");
    if (!in)
        return 0;
    while (fgets(line, sizeof line, in) && sscanf(line, "VmHWM: %ld", &kib) != 1)
        ;
    fclose(in);
    return kib * INT64_C(1024);
}

static int64_t elapsed_ns(struct session *session, int64_t calls)
{
    int64_t start = now_ns();
    for (int64_t call = 0; call < calls; call++)
        run(session);
    return now_ns() - start;
}

/* As many calls, doubled from one, as take CLOCK_STEPS steps together. */
static int64_t calls_per_sample(struct session *session, int64_t step_ns)
{
    int64_t calls = 1;
    while (elapsed_ns(session, calls) < CLOCK_STEPS * step_ns)
        calls *= 2;
    return calls;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Run until the times settle: until the medians of two windows, one after the other, differ by no more than SETTLED. */
static void warm_up(struct session *session, struct result *result)
{
    static int64_t times[WARMUP_CALLS];
    int64_t start = now_ns();
    double before = 0;
    while (result->warmup < WARMUP_CALLS && now_ns() - start < WARMUP_NS) {
        long calls = 0, most = WARMUP_CALLS - result->warmup;
        int64_t sum = 0;
        while (calls < most && (calls < WINDOW_CALLS || sum < WINDOW_NS))
            sum += times[calls++] = elapsed_ns(session, 1);
        qsort(times, calls, sizeof *times, by_value);
        double now = (times[(calls - 1) / 2] + times[calls / 2]) / 2.0;
        int first = !result->warmup;
        result->warmup += calls;
        if (!first && now - before <= SETTLED * before && before - now <= SETTLED * before)
            return;
        before = now;
    }
    result->unsettled = 1;
}

static int64_t profile_start_ns;

static int more_profiled(int calls)
{
    if (!calls)
        profile_start_ns = now_ns();
    return calls < OPERATOR_CALLS && (calls < 2 || now_ns() - profile_start_ns < OPERATOR_NS);
}

/* The median times of the operators. */
static void time_operators(const struct job *job, struct operators *operators)
{
    profile(job, operators, more_profiled);
    for (int i = 0; i < operators->number; i++) {
        int count = operators->timed[i];
        int64_t *times = operators->times_ns[i];
        qsort(times, count, sizeof *times, by_value);
        operators->median_ns[i] = count ? (times[(count - 1) / 2] + times[count / 2]) / 2 : 0;
    }
}
