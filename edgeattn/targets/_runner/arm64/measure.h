/* The clock, and what is measured with it: warm-up, samples, memory, operators. Part of runner.c; after session.h. */
#include <time.h>

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

/* Time the operators, in a session of their own; the first call does not count, as it lays out memory. */
static void profile(const struct job *job, struct operators *operators)
{
    static struct session session;
    static LiteRtProfilerEvent events[2 * MAX_OPERATORS];
    LiteRtProfiler profiler;
    load(&session, job, 1);
    feed(&session, job);
    CHECK(LiteRtCompiledModelGetProfiler(session.model, &profiler));
    int64_t start = now_ns();
    int calls = 0;
    while (calls < OPERATOR_CALLS && (calls < 2 || now_ns() - start < OPERATOR_NS)) {
        int event_count, number = 0;
        CHECK(LiteRtResetProfiler(profiler));
        CHECK(LiteRtStartProfiler(profiler));
        run(&session);
        CHECK(LiteRtStopProfiler(profiler));
        CHECK(LiteRtGetNumProfilerEvents(profiler, &event_count));
        if (event_count > 2 * MAX_OPERATORS)
            return;
        CHECK(LiteRtGetProfilerEvents(profiler, event_count, events));
        for (int i = 0; i < event_count && number < MAX_OPERATORS; i++)
            if (events[i].kind & LITERT_OPERATOR_EVENTS) {
                snprintf(operators->name[number], sizeof operators->name[number], "%s", events[i].tag);
                if (calls)
                    operators->times[number][calls - 1] = events[i].elapsed_us * 1000;
                number++;
            }
        operators->number = number;
        calls++;
    }
    operators->calls = calls;
    for (int i = 0; i < operators->number; i++) {
        int64_t *times = operators->times[i];
        qsort(times, calls - 1, sizeof *times, by_value);
        operators->median_ns[i] = (times[(calls - 2) / 2] + times[(calls - 1) / 2]) / 2;
    }
}
