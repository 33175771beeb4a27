/* Runs files in the runtime it is linked with (litert.c, onnxruntime.c), without Python: `runner FOLDER...`; several
 * interleaved, A B A B, each in a process of its own.
 *
 * It reads and writes what worker.py does (job.txt; result.json, samples.txt, first-I.npy, ...): see there.
 * Where there is no libc of GNU's, as on Android, the loader goes beside it:
 *     ./ld-linux-aarch64.so.1 --library-path . ./runner FOLDER
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"
#include "session.h"

enum { MAX_JOBS = 64, REGION_BEGIN = 0x51510001, REGION_END = 0x51510002 };

/* ---- turns ---- */

/* The pipes of an interleaved job: a byte in starts its turn, a byte out ends it. -1: the job runs alone. */
static int turn_in = -1, turn_out = -1;

static void wait_for_turn(void)
{
    char byte;
    if (read(turn_in, &byte, 1) != 1)
        _exit(1); /* the process that gives the turns has ended */
}

/* Let the other jobs run; whether there are any. */
static int give_turn(void)
{
    if (turn_out < 0)
        return 0;
    if (write(turn_out, ".", 1) != 1)
        _exit(1);
    wait_for_turn();
    return 1;
}

static _Noreturn void work(const char *folder)
{
    struct result result = {0};
    if (chdir(folder)) {
        perror(folder);
        _exit(2);
    }
    struct job job = {.warmup = 1, .runs = 1, .threads = 1};
    FILE *in = fopen("job.txt", "r");
    if (!in)
        refuse("input", "the job folder has no job.txt");
    long then = read_on(&job, in), next;
    int64_t start = now_ns();
    struct session *session = load(&job, 0);
    const struct names *outputs = outputs_of(session);
    result.load_ns = now_ns() - start;
    write_result(outputs, &result);
    feed(session, &job);
    result.first_run_ns = elapsed_ns(session, 1);
    save(session, "first", 0);

    start = now_ns();
    if (job.warmup == AUTO)
        warm_up(session, &result);
    else
        for (; result.warmup < job.warmup; result.warmup++)
            run(session);
    result.warmup_ns = now_ns() - start;
    result.clock_step_ns = clock_step_ns();
    result.calls_per_sample = job.count || !job.runs ? 1 : calls_per_sample(session, result.clock_step_ns);
    write_result(outputs, &result);

    FILE *samples = fopen("samples.txt", "w");
    if (!samples)
        refuse("input", "samples.txt cannot be written");
    for (long i = 0; i < job.runs; i++) {
        if (give_turn())
            run(session); /* the other job's data are in the caches, and its threads may still be spinning */
        if (job.count)
            getpriority(PRIO_PROCESS, REGION_BEGIN);
        int64_t elapsed = elapsed_ns(session, result.calls_per_sample);
        if (job.count)
            getpriority(PRIO_PROCESS, REGION_END);
        fprintf(samples, "%lld\n", (long long)(elapsed / result.calls_per_sample));
        fflush(samples);
    }
    fclose(samples);
    save(session, "last", 0);
    for (; then; then = next) {
        next = read_on(&job, in);
        feed(session, &job);
        run(session);
        save(session, "then", then);
    }
    result.complete = 1;
    result.peak_memory_bytes = peak_memory_bytes();
    write_result(outputs, &result);
    if (job.operators) {
        static struct operators operators;
        give_turn();
        result.operators = &operators;
        write_result(outputs, &result); /* the result so far is valid, even if the profiler crashes */
        time_operators(&job, &operators);
        write_result(outputs, &result);
    }
    /* Not exit(): a runtime's own destructors are of no use here, and sometimes crash. */
    _exit(0);
}

struct process {
    pid_t pid;
    int give, back, ended;
};

static void must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

/* Start the job of `folder`, which waits for its turn; `others` are those before it. */
static struct process start_process(const char *folder, const struct process *others, int count)
{
    int to[2], from[2];
    must(pipe(to), "pipe");
    must(pipe(from), "pipe");
    struct process process = {.pid = fork(), .give = to[1], .back = from[0]};
    must(process.pid, "fork");
    if (!process.pid) {
        turn_in = to[0], turn_out = from[1];
        close(to[1]), close(from[0]);
        /* Held open here they would hide from the others that the process that gives the turns has ended. */
        for (int i = 0; i < count; i++)
            close(others[i].give), close(others[i].back);
        wait_for_turn();
        work(folder);
    }
    close(to[0]), close(from[1]);
    return process;
}

static int run_in_turn(char **folders, int count)
{
    struct process processes[MAX_JOBS];
    int running = count, code = 0;
    char byte;
    signal(SIGPIPE, SIG_IGN); /* a job that has ended is noticed at its turn */
    for (int i = 0; i < count; i++)
        processes[i] = start_process(folders[i], processes, i);
    while (running)
        for (int i = 0; i < count; i++)
            if (!processes[i].ended
                && (write(processes[i].give, ".", 1) != 1 || read(processes[i].back, &byte, 1) != 1)) {
                processes[i].ended = 1;
                running--;
            }
    for (int i = 0; i < count; i++) {
        int status;
        must(waitpid(processes[i].pid, &status, 0), "waitpid");
        if (WIFSIGNALED(status))
            fprintf(stderr, "the run in %s was ended by signal %d\n", folders[i], WTERMSIG(status));
        code |= status != 0;
    }
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc - 1 > MAX_JOBS) {
        fprintf(stderr, "usage: runner FOLDER...\n");
        return 2;
    }
    if (argc > 2)
        return run_in_turn(argv + 1, argc - 1);
    work(argv[1]);
}
