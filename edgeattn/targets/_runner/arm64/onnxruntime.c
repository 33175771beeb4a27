/* A .onnx file in onnxruntime, on its CPU execution provider. */
#include "onnxruntime.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

const char *runtime = "onnxruntime";
const char profiler_note[] = "onnxruntime's profiler, which has steps of 1 us and takes time itself";

struct session {
    OrtSession *session;
    struct names inputs, outputs;
    OrtValue *input[MAX_TENSORS], *output[MAX_TENSORS];
    void *data[MAX_TENSORS]; /* of the inputs */
};

static const OrtApi *ort;
static OrtEnv *environment;
static OrtAllocator *allocator;

const char *runtime_version(void)
{
    return OrtGetApiBase()->GetVersionString();
}

const struct names *outputs_of(const struct session *session)
{
    return &session->outputs;
}

static void check(OrtStatus *status, const char *kind)
{
    if (!status)
        return;
    const char *message = ort->GetErrorMessage(status);
    refuse(kind, "onnxruntime %s: %.*s", strcmp(kind, "input") ? "refuses the file" : "fails on these inputs",
           (int)strcspn(message, "\n"), message);
}
#define CHECK(call) check(call, "artifact")

/* ---- loading ---- */

static OrtSessionOptions *make_options(long threads, int profiled)
{
    OrtSessionOptions *options;
    CHECK(ort->CreateSessionOptions(&options));
    CHECK(ort->SetIntraOpNumThreads(options, threads));
    CHECK(ort->SetInterOpNumThreads(options, 1));
    if (profiled)
        CHECK(ort->EnableProfiling(options, "profile"));
    return options;
}

static void start(void)
{
    /* It would send telemetry. */
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort)
        refuse("artifact", "onnxruntime %s lacks version %d of its C API", runtime_version(), ORT_API_VERSION);
    CHECK(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgeattn", &environment));
    CHECK(ort->GetAllocatorWithDefaultOptions(&allocator));
}

struct session *load(const struct job *job, int profiled)
{
    struct session *session = calloc(1, sizeof *session);
    struct names *inputs = &session->inputs, *outputs = &session->outputs;
    if (job->gpu)
        refuse("input", "the native runner of onnxruntime has the CPU only");
    if (!ort)
        start();
    CHECK(ort->CreateSession(environment, job->artifact, make_options(job->threads, profiled), &session->session));
    CHECK(ort->SessionGetInputCount(session->session, &inputs->count));
    CHECK(ort->SessionGetOutputCount(session->session, &outputs->count));
    if (inputs->count > MAX_TENSORS || outputs->count > MAX_TENSORS)
        refuse("artifact", "the native runner takes up to %d inputs and outputs", MAX_TENSORS);
    for (size_t i = 0; i < inputs->count; i++)
        CHECK(ort->SessionGetInputName(session->session, i, allocator, (char **)&inputs->name[i]));
    for (size_t i = 0; i < outputs->count; i++)
        CHECK(ort->SessionGetOutputName(session->session, i, allocator, (char **)&outputs->name[i]));
    return session;
}

/* ---- inputs and outputs ---- */

/* By the numbers of onnxruntime's, which are those of the ONNX format. */
static const char *const DESCRS[] = {NULL, "<f4", "|u1", "|i1", "<u2", "<i2", "<i4", "<i8",
                                     NULL, "|b1", "<f2", "<f8", "<u4", "<u8"};
enum { TYPES = sizeof DESCRS / sizeof *DESCRS };

static OrtValue *read_input(const char *file, const char *name, void **data)
{
    struct array given;
    OrtMemoryInfo *memory;
    OrtValue *value;
    FILE *in = open_npy(file, &given);
    int type = 1;
    while (!DESCRS[type] || strcmp(DESCRS[type], given.descr))
        type++;
    size_t size = item_size(given.descr);
    for (unsigned axis = 0; axis < given.rank; axis++)
        size *= given.shape[axis];
    free(*data);
    *data = aligned_alloc(64, (size / 64 + 1) * 64);
    read_values(in, name, *data, size);
    check(ort->CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &memory), "input");
    check(ort->CreateTensorWithDataAsOrtValue(memory, *data, size, given.shape, given.rank, type, &value), "input");
    return value;
}

void feed(struct session *session, const struct job *job)
{
    if (session->inputs.count != job->inputs)
        refuse("input", "the artifact takes %zu inputs, not %zu", session->inputs.count, job->inputs);
    for (size_t i = 0; i < session->inputs.count; i++) {
        const char *name = session->inputs.name[i];
        if (session->input[i])
            ort->ReleaseValue(session->input[i]);
        session->input[i] = read_input(input_file(job, name), name, &session->data[i]);
    }
}

void run(struct session *session)
{
    /* As an app would: onnxruntime allocates the outputs. */
    for (size_t i = 0; i < session->outputs.count; i++) {
        if (session->output[i])
            ort->ReleaseValue(session->output[i]);
        session->output[i] = NULL;
    }
    check(ort->Run(session->session, NULL, session->inputs.name, (const OrtValue *const *)session->input,
                   session->inputs.count, session->outputs.name, session->outputs.count, session->output),
          "input");
}

void save(struct session *session, const char *which, long number)
{
    for (size_t i = 0; i < session->outputs.count; i++) {
        const char *name = session->outputs.name[i];
        struct array array;
        OrtTensorInfo *about;
        size_t rank, count;
        int is_tensor, type;
        void *data;
        CHECK(ort->IsTensor(session->output[i], &is_tensor));
        if (!is_tensor)
            refuse("artifact", "the output %s is no tensor, which the native runner does not know", name);
        CHECK(ort->GetTensorTypeAndShape(session->output[i], &about));
        CHECK(ort->GetTensorElementType(about, &type));
        CHECK(ort->GetDimensionsCount(about, &rank));
        if (type < 0 || type >= TYPES || !DESCRS[type] || rank > MAX_RANK)
            refuse("artifact", "the output %s has type %d and %zu axes, which the native runner does not know", name,
                   type, rank);
        array.descr = DESCRS[type], array.rank = rank;
        CHECK(ort->GetDimensions(about, array.shape, rank));
        CHECK(ort->GetTensorShapeElementCount(about, &count));
        CHECK(ort->GetTensorMutableData(session->output[i], &data));
        write_npy(output_file(which, number, i), &array, data, count * item_size(array.descr));
        ort->ReleaseTensorTypeAndShapeInfo(about);
    }
}

/* ---- times by operator ---- */

/* The text after `key` in a line of a profile, cut where `end` begins; NULL if it has none. */
static char *text_after(char *line, const char *key, const char *end)
{
    char *text = strstr(line, key), *stop;
    if (!text)
        return NULL;
    text += strlen(key);
    if (!(stop = strstr(text, end)))
        return NULL;
    *stop = 0;
    return text;
}

/* One event of onnxruntime's profile (Chrome's trace events, one a line), if it is a kernel's. */
static void add_event(char *line, struct operators *operators, int *seen)
{
    char *time = strstr(line, "\"dur\" :");
    int64_t time_us = time ? atoll(time + strlen("\"dur\" :")) : 0;
    char *kind = text_after(line, "\"op_name\" : \"", "\"");
    char *name = text_after(line, "\"name\" :\"", "_kernel_time\"");
    int i = 0;
    if (!kind || !name || strlen(name) >= sizeof *operators->name || strlen(kind) >= sizeof *operators->kind)
        return;
    while (i < operators->number && (strcmp(operators->name[i], name) || strcmp(operators->kind[i], kind)))
        i++;
    if (i == MAX_OPERATORS)
        return;
    if (i == operators->number) {
        operators->number++;
        strcpy(operators->name[i], name);
        strcpy(operators->kind[i], kind);
    }
    if (seen[i]++)
        add_time(operators, i, time_us * 1000);
}

void profile(const struct job *job, struct operators *operators, int (*more)(int calls))
{
    static char line[65536];
    static int seen[MAX_OPERATORS];
    struct session *session = load(job, 1);
    char *path;
    int calls = 0;
    feed(session, job);
    for (; more(calls); calls++)
        run(session);
    CHECK(ort->SessionEndProfiling(session->session, allocator, &path));
    FILE *in = fopen(path, "r");
    if (!in)
        return;
    while (fgets(line, sizeof line, in))
        add_event(line, operators, seen);
    fclose(in);
    unlink(path);
    operators->calls = calls;
}
