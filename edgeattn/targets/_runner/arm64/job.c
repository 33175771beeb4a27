#include "session.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void refuse(const char *kind, const char *format, ...)
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
        fputs(i ? ", [" : "[", out);
        put_string(out, operators->name[i]);
        fputs(", ", out);
        put_string(out, operators->kind[i]);
        fprintf(out, ", %lld]", (long long)operators->median_ns[i]);
    }
    fputs("], \"operators_note\": \"", out);
    if (operators->calls)
        fprintf(out, "medians of %d runs under %s", operators->calls - 1, profiler_note);
    else
        fputs("no time by operator: it ended in the profiler", out);
    putc('"', out);
}

void add_time(struct operators *operators, int number, int64_t time_ns)
{
    if (operators->timed[number] < OPERATOR_CALLS)
        operators->times_ns[number][operators->timed[number]++] = time_ns;
}

void write_result(const struct names *outputs, const struct result *result)
{
    FILE *out = open_result();
    fprintf(out, "{\"complete\": %s, \"runtime\": \"%s\", \"runtime_version\": ", result->complete ? "true" : "false",
            runtime);
    put_string(out, runtime_version());
    fputs(", \"runner\": \"native\"", out);
    put_number(out, "load_ns", result->load_ns);
    put_number(out, "first_run_ns", result->first_run_ns);
    if (result->warmup_ns)
        fprintf(out, ", \"warmup\": %ld, \"settled\": %s", result->warmup, result->unsettled ? "false" : "true");
    put_number(out, "warmup_ns", result->warmup_ns);
    put_number(out, "clock_step_ns", result->clock_step_ns);
    put_number(out, "calls_per_sample", result->calls_per_sample);
    put_number(out, "peak_memory_bytes", result->peak_memory_bytes);
    fputs(", \"outputs\": [", out);
    for (size_t i = 0; i < outputs->count; i++) {
        fputs(i ? ", " : "", out);
        put_string(out, outputs->name[i]);
    }
    fputs("]", out);
    if (result->operators)
        put_operators(out, result->operators);
    fputs("}\n", out);
    close_result(out);
}

/* ---- the job ---- */

long read_on(struct job *job, FILE *in)
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
        else if (!strcmp(key, "gpu"))
            job->gpu = atol(value);
        else if (!strcmp(key, "input") && job->inputs < MAX_TENSORS) {
            struct input *input = &job->input[job->inputs++];
            if (sscanf(value, "%31s %511[^\n]", input->file, input->name) != 2)
                refuse("input", "job.txt has a line that cannot be read: %s", value);
        }
    }
    return 0;
}

const char *input_file(const struct job *job, const char *name)
{
    for (size_t i = 0; i < job->inputs; i++)
        if (!strcmp(job->input[i].name, name))
            return job->input[i].file;
    refuse("input", "the artifact takes %s, which is not given", name);
}

const char *output_file(const char *which, long number, size_t index)
{
    static char file[64];
    if (number)
        snprintf(file, sizeof file, "%s-%ld-%zu.npy", which, number, index);
    else
        snprintf(file, sizeof file, "%s-%zu.npy", which, index);
    return file;
}

/* ---- .npy files ---- */

static const char *const DESCRS[] = {"|b1", "|u1", "|i1", "<u2", "<i2", "<f2",
                                     "<u4", "<i4", "<f4", "<u8", "<i8", "<f8"};

size_t item_size(const char *descr)
{
    return descr[2] - '0';
}

FILE *open_npy(const char *file, struct array *array)
{
    unsigned char start[10];
    char header[4096] = "";
    FILE *in = fopen(file, "rb");
    if (!in || fread(start, 1, 10, in) != 10 || memcmp(start, "\x93NUMPY\x01", 7))
        refuse("input", "%s is no .npy file of version 1", file);
    size_t length = start[8] + 256u * start[9];
    if (length >= sizeof header || fread(header, 1, length, in) != length)
        refuse("input", "%s is cut off", file);
    array->descr = NULL;
    for (size_t i = 0; i < sizeof DESCRS / sizeof *DESCRS; i++)
        if (strstr(header, DESCRS[i]))
            array->descr = DESCRS[i];
    char *shape = strstr(header, "'shape': ("), *end;
    if (!array->descr || !shape)
        refuse("input", "%s has a type that the native runner does not know", file);
    shape += strlen("'shape': (");
    for (array->rank = 0; *shape != ')'; array->rank++) {
        if (array->rank == MAX_RANK)
            refuse("input", "%s has more than %d axes", file, MAX_RANK);
        array->shape[array->rank] = strtoll(shape, &end, 10);
        if (end == shape)
            refuse("input", "%s has a header that cannot be read", file);
        shape = end + strspn(end, ", ");
    }
    return in;
}

void read_values(FILE *in, const char *name, void *data, size_t size)
{
    if (fread(data, 1, size, in) != size || getc(in) != EOF)
        refuse("input", "input %s must have %zu bytes: another shape", name, size);
    fclose(in);
}

void write_npy(const char *file, const struct array *array, const void *data, size_t size)
{
    char shape[MAX_RANK * 22 + 1] = "", header[512];
    for (unsigned i = 0; i < array->rank; i++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%lld, ", (long long)array->shape[i]);
    int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                          array->descr, shape);
    int padded = (10 + length + 1 + 63) / 64 * 64 - 10;
    FILE *out = fopen(file, "wb");
    if (!out)
        refuse("input", "%s cannot be written", file);
    fprintf(out, "\x93NUMPY\x01%c%c%c%-*s\n", 0, padded % 256, padded / 256, padded - 1, header);
    if (fwrite(data, 1, size, out) != size || fclose(out))
        refuse("input", "%s cannot be written: is the disk full?", file);
}
