/* The job folder, as worker.py has it: what is read of it (job.txt, .npy files) and what is written into it. Part of
 * runner.c. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "litert.h"

/* OPERATOR_CALLS are the calls for the times by operator, MAX_OPERATORS the largest number of operators. */
enum { AUTO = -1, MAX_TENSORS = 64, OPERATOR_CALLS = 20, MAX_OPERATORS = 4096 };

struct input {
    char file[32];
    char name[512];
};

struct job {
    char artifact[64];
    long warmup, runs, threads, count, operators;
    size_t inputs;
    struct input input[MAX_TENSORS];
};

struct tensor {
    const char *name;
    LiteRtRankedTensorType type;
    LiteRtTensorBuffer buffer;
};

struct session {
    LiteRtCompiledModel model;
    size_t inputs, outputs;
    struct tensor input[MAX_TENSORS], output[MAX_TENSORS];
};

struct operators {
    int calls, number;
    char name[MAX_OPERATORS][96];
    int64_t times[MAX_OPERATORS][OPERATOR_CALLS], median_ns[MAX_OPERATORS];
};

struct result {
    int complete, unsettled;
    long warmup;
    const struct operators *operators; /* NULL: not requested */
    /* 0: not known yet */
    int64_t load_ns, first_run_ns, warmup_ns, clock_step_ns, calls_per_sample, peak_memory_bytes;
};

/* ---- result.json ---- */

static void put_string(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putc('\\', out);
        if ((unsigned char)*text < ' ')
            fprintf(out, "\\u%04x", *text);
        else
            putc(*text, out);
    }
    putc('"', out);
}

static FILE *open_result(void)
{
    FILE *out = fopen("result.json.part", "w");
    if (!out) {
        perror("result.json.part");
        exit(1);
    }
    return out;
}

static void close_result(FILE *out)
{
    if (fclose(out) || rename("result.json.part", "result.json")) {
        perror("result.json");
        exit(1);
    }
}

/* Why the job cannot be run; `kind` says whose fault it is: artifact or input. */
static void refuse(const char *kind, const char *format, ...)
{
    char sentence[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    FILE *out = open_result();
    fprintf(out, "{\"kind\": \"%s\", \"error\": ", kind);
    put_string(out, sentence);
    fputs("}\n", out);
    close_result(out);
    _exit(1);
}

static void put_number(FILE *out, const char *key, int64_t value)
{
    if (value)
        fprintf(out, ", \"%s\": %lld", key, (long long)value);
}

static void put_operators(FILE *out, const struct operators *operators)
{
    fputs(", \"operators\": [", out);
    for (int i = 0; i < operators->number; i++) {
        char name[112];
        snprintf(name, sizeof name, "%d %s", i, operators->name[i]);
        fputs(i ? ", [" : "[", out);
        put_string(out, name);
        fputs(", ", out);
        put_string(out, operators->name[i]);
        fprintf(out, ", %lld]", (long long)operators->median_ns[i]);
    }
    fputs("], \"operators_note\": \"", out);
    if (operators->calls)
        fprintf(out, "medians of %d runs under LiteRT's profiler, which has steps of 1 us and takes time itself; its "
                     "kernels do not tell which layer they are of\"", operators->calls - 1);
    else
        fputs("no time by operator: it ended in the profiler\"", out);
}

static void write_result(const struct session *session, const struct result *result)
{
    FILE *out = open_result();
    fprintf(out, "{\"complete\": %s, \"runtime\": \"litert\", \"runtime_version\": \"%s\", \"runner\": \"native\"",
            result->complete ? "true" : "false", LITERT_VERSION);
    put_number(out, "load_ns", result->load_ns);
    put_number(out, "first_run_ns", result->first_run_ns);
    if (result->warmup_ns)
        fprintf(out, ", \"warmup\": %ld, \"settled\": %s", result->warmup, result->unsettled ? "false" : "true");
    put_number(out, "warmup_ns", result->warmup_ns);
    put_number(out, "clock_step_ns", result->clock_step_ns);
    put_number(out, "calls_per_sample", result->calls_per_sample);
    put_number(out, "peak_memory_bytes", result->peak_memory_bytes);
    fputs(", \"outputs\": [", out);
    for (size_t i = 0; i < session->outputs; i++) {
        fputs(i ? ", " : "", out);
        put_string(out, session->output[i].name);
    }
    fputs("]", out);
    if (result->operators)
        put_operators(out, result->operators);
    fputs("}\n", out);
    close_result(out);
}

/* ---- the job ---- */

/* Read on in job.txt, to its end or to `then`, where the inputs of another run follow; its number, or 0. */
static long read_on(struct job *job, FILE *in)
{
    char line[1024], key[32], value[992];
    job->inputs = 0;
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%31s %991[^\n]", key, value) != 2)
            continue;
        if (!strcmp(key, "then"))
            return atol(value);
        if (!strcmp(key, "artifact"))
            snprintf(job->artifact, sizeof job->artifact, "%.63s", value);
        else if (!strcmp(key, "warmup"))
            job->warmup = strcmp(value, "auto") ? atol(value) : AUTO;
        else if (!strcmp(key, "runs"))
            job->runs = atol(value);
        else if (!strcmp(key, "threads"))
            job->threads = atol(value);
        else if (!strcmp(key, "count"))
            job->count = atol(value);
        else if (!strcmp(key, "operators"))
            job->operators = atol(value);
        else if (!strcmp(key, "input") && job->inputs < MAX_TENSORS) {
            struct input *input = &job->input[job->inputs++];
            if (sscanf(value, "%31s %511[^\n]", input->file, input->name) != 2)
                refuse("input", "job.txt has a line that cannot be read: %s", value);
        }
    }
    return 0;
}

/* ---- .npy files ---- */

static const char *numpy_type(int element_type)
{
    switch (element_type) {
    case 1: return "<f4";
    case 2: return "<i4";
    case 3: return "|u1";
    case 4: return "<i8";
    case 6: return "|b1";
    case 7: return "<i2";
    case 9: return "|i1";
    case 10: return "<f2";
    case 11: return "<f8";
    case 16: return "<u4";
    case 17: return "<u2";
    default: refuse("artifact", "the file has a tensor of type %d, which the native runner does not know", element_type);
    }
    return NULL;
}

/* Read `file` (version 1.0, C order) into `data`, if its type and size are the tensor's. */
static void read_npy(const char *file, const struct tensor *tensor, void *data, size_t size)
{
    unsigned char start[10];
    char header[4096] = "";
    FILE *in = fopen(file, "rb");
    if (!in || fread(start, 1, 10, in) != 10 || memcmp(start, "\x93NUMPY\x01", 7))
        refuse("input", "%s is no .npy file of version 1", file);
    size_t length = start[8] + 256u * start[9];
    if (length >= sizeof header || fread(header, 1, length, in) != length)
        refuse("input", "%s is cut off", file);
    if (!strstr(header, numpy_type(tensor->type.element_type)))
        refuse("input", "input %s must be of type %s", tensor->name, numpy_type(tensor->type.element_type));
    if (fread(data, 1, size, in) != size || getc(in) != EOF)
        refuse("input", "input %s must have %zu bytes: another shape", tensor->name, size);
    fclose(in);
}

static void write_npy(const char *file, const struct tensor *tensor, const void *data, size_t size)
{
    char shape[160] = "", header[256];
    for (unsigned i = 0; i < tensor->type.rank; i++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%d, ", tensor->type.dimensions[i]);
    int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                          numpy_type(tensor->type.element_type), shape);
    int padded = (10 + length + 1 + 63) / 64 * 64 - 10;
    FILE *out = fopen(file, "wb");
    if (!out)
        refuse("input", "%s cannot be written", file);
    fprintf(out, "\x93NUMPY\x01%c%c%c%-*s\n", 0, padded % 256, padded / 256, padded - 1, header);
    if (fwrite(data, 1, size, out) != size || fclose(out))
        refuse("input", "%s cannot be written: is the disk full?", file);
}
