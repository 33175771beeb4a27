/* The job folder, as worker.py has it: what is read of it (job.txt, .npy files) and what is written into it. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* OPERATOR_CALLS are the calls for the times by operator, MAX_OPERATORS the largest number of operators. */
enum { AUTO = -1, MAX_TENSORS = 64, MAX_RANK = 8, OPERATOR_CALLS = 20, MAX_OPERATORS = 4096 };

struct input {
    char file[32];
    char name[512];
};

struct job {
    char artifact[64];
    long warmup, runs, threads, count, operators, gpu;
    size_t inputs;
    struct input input[MAX_TENSORS];
};

struct names {
    size_t count;
    const char *name[MAX_TENSORS];
};

/* An array but for its values: `descr` is numpy's name of the type, as "<f4". */
struct array {
    const char *descr;
    unsigned rank;
    int64_t shape[MAX_RANK];
};

struct operators {
    int calls, number;
    char name[MAX_OPERATORS][160], kind[MAX_OPERATORS][96];
    int timed[MAX_OPERATORS]; /* how many of its times there are */
    int64_t times_ns[MAX_OPERATORS][OPERATOR_CALLS], median_ns[MAX_OPERATORS];
};

struct result {
    int complete, unsettled;
    long warmup;
    const struct operators *operators; /* NULL: not requested */
    /* 0: not known yet */
    int64_t load_ns, first_run_ns, warmup_ns, clock_step_ns, calls_per_sample, peak_memory_bytes;
};

/* Write result.json with why the job cannot be run, and end; `kind` says whose fault it is: artifact, input,
 * or missing. */
_Noreturn void refuse(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Read on in job.txt, to its end or to `then`, where the inputs of another run follow; its number, or 0. */
long read_on(struct job *, FILE *in);

/* The file of the input `name`. */
const char *input_file(const struct job *, const char *name);

/* Read the header of a .npy file (version 1.0, C order); its values follow in the stream. */
FILE *open_npy(const char *file, struct array *);
/* Read its values, which must have `size` bytes, and close it; `name` is the input's. */
void read_values(FILE *in, const char *name, void *data, size_t size);
void write_npy(const char *file, const struct array *, const void *data, size_t size);
/* The size of a value, in bytes. */
size_t item_size(const char *descr);
/* The name of the file of output `index`, in a buffer of its own; `number` 0 is none. */
const char *output_file(const char *which, long number, size_t index);

void add_time(struct operators *, int number, int64_t time_ns);

void write_result(const struct names *outputs, const struct result *);
