/* A .tflite file in LiteRT: on the CPU by XNNPACK, or on the GPU by an accelerator that is not of ours. */
#include "litert.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

const char *runtime = "litert";
const char profiler_note[] = "LiteRT's profiler, which has steps of 1 us and takes time itself; its kernels do not "
                             "tell which layer they are of";

struct tensor {
    LiteRtRankedTensorType type;
    LiteRtTensorBuffer buffer;
};

struct session {
    int gpu;
    LiteRtCompiledModel model;
    struct names inputs, outputs;
    struct tensor input[MAX_TENSORS], output[MAX_TENSORS];
};

const char *runtime_version(void)
{
    return LITERT_VERSION;
}

const struct names *outputs_of(const struct session *session)
{
    return &session->outputs;
}

static void check(LiteRtStatus status, const char *kind, const char *what)
{
    if (status)
        refuse(kind, "LiteRT refuses the %s (%s: status %d)", strcmp(kind, "input") ? "file" : "inputs", what, status);
}
#define CHECK(call) check(call, "artifact", #call)

/* ---- the CPU ---- */

static void add_option(LiteRtOptions options, const char *identifier, const char *key, const char *value)
{
    char *payload = malloc(64); /* TOML; LiteRT frees it */
    LiteRtOpaqueOptions added;
    snprintf(payload, 64, "%s = %s\n", key, value);
    CHECK(LiteRtCreateOpaqueOptions(identifier, payload, free, &added));
    CHECK(LiteRtAddOpaqueOptions(options, added));
}

static LiteRtOptions make_options(long threads, int profiled)
{
    char number[24];
    LiteRtOptions options;
    CHECK(LiteRtCreateOptions(&options));
    CHECK(LiteRtSetOptionsHardwareAccelerators(options, LITERT_CPU));
    snprintf(number, sizeof number, "%ld", threads);
    add_option(options, "xnnpack", "num_threads", number);
    if (profiled)
        add_option(options, "runtime_options_string", "enable_profiling", "true");
    return options;
}

/* ---- the GPU ---- */

/* The accelerator, under the first name that LiteRT itself looks for; and what LiteRT tells while it loads. */
static const char ACCELERATOR[] = "libLiteRtGpuAccelerator.so", LOG[] = "litert.txt";

static void check_accelerator(void)
{
    void *library = dlopen(ACCELERATOR, RTLD_NOW);
    if (!library)
        refuse("missing", "the GPU library cannot be loaded: %s", dlerror());
    if (!dlsym(library, "LiteRtAcceleratorImpl") && !dlsym(library, "LiteRtRegisterGpuAccelerator"))
        refuse("input", "the GPU library is no accelerator for LiteRT: it lacks LiteRtAcceleratorImpl");
}

/* Send stderr to `file`; what it was. */
static int divert_stderr(const char *file)
{
    int before = dup(2), log = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (before < 0 || log < 0 || dup2(log, 2) < 0)
        refuse("input", "%s cannot be written", file);
    close(log);
    return before;
}

/* Say why the file is not on the GPU alone, as LiteRT has told. */
static _Noreturn void refuse_on_gpu(LiteRtStatus status)
{
    char line[4096];
    FILE *log = fopen(LOG, "r");
    while (log && fgets(line, sizeof line, log)) {
        long taken, left;
        if (strstr(line, "No adapters found"))
            refuse("missing", "LiteRT's GPU accelerator finds no GPU, or no driver that it can load");
        if (strstr(line, "GPU accelerator could not be loaded"))
            refuse("missing", "this LiteRT cannot register the GPU library");
        for (char *text = line; *text; text++)
            if (sscanf(text, "%ld operations will run on the GPU, and the remaining %ld", &taken, &left) == 2)
                refuse("artifact", "it is not on the GPU alone: LiteRT's accelerator takes %ld operators of %ld", taken,
                       taken + left);
    }
    refuse("artifact", "LiteRT's GPU accelerator refuses the file (status %d)", status);
}

/* Compile the model for the GPU alone: with the CPU beside it a model calls itself accelerated even if most of it is
 * on the CPU. */
static LiteRtCompiledModel compile_on_gpu(LiteRtEnvironment environment, LiteRtModel model)
{
    LiteRtOptions options;
    LiteRtCompiledModel compiled;
    bool alone = false;
    CHECK(LiteRtCreateOptions(&options));
    CHECK(LiteRtSetOptionsHardwareAccelerators(options, LITERT_GPU));
    LiteRtStatus status = LiteRtCreateCompiledModel(environment, model, options, &compiled);
    if (status || LiteRtCompiledModelIsFullyAccelerated(compiled, &alone) || !alone)
        refuse_on_gpu(status);
    return compiled;
}

/* ---- loading ---- */

struct session *load(const struct job *job, int profiled)
{
    struct session *session = calloc(1, sizeof *session);
    LiteRtEnvironment environment;
    LiteRtModel model;
    LiteRtSignature signature;
    LiteRtTensor tensor;
    LiteRtTensorBufferRequirements needs;
    struct names *inputs = &session->inputs, *outputs = &session->outputs;
    int to_stderr = -1;
    session->gpu = job->gpu;
    if (job->gpu) {
        runtime = "litert gpu";
        check_accelerator();
        to_stderr = divert_stderr(LOG);
    }
    CHECK(LiteRtCreateEnvironment(0, NULL, &environment));
    CHECK(LiteRtCreateModelFromFile(environment, job->artifact, &model));
    if (job->gpu) {
        session->model = compile_on_gpu(environment, model);
        dup2(to_stderr, 2);
    } else
        CHECK(LiteRtCreateCompiledModel(environment, model, make_options(job->threads, profiled), &session->model));
    CHECK(LiteRtGetModelSignature(model, 0, &signature));
    CHECK(LiteRtGetNumSignatureInputs(signature, &inputs->count));
    CHECK(LiteRtGetNumSignatureOutputs(signature, &outputs->count));
    if (inputs->count > MAX_TENSORS || outputs->count > MAX_TENSORS)
        refuse("artifact", "the native runner takes up to %d inputs and outputs", MAX_TENSORS);
    for (size_t i = 0; i < inputs->count; i++) {
        struct tensor *in = &session->input[i];
        CHECK(LiteRtGetSignatureInputName(signature, i, &inputs->name[i]));
        CHECK(LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor));
        CHECK(LiteRtGetRankedTensorType(tensor, &in->type));
        CHECK(LiteRtGetCompiledModelInputBufferRequirements(session->model, 0, i, &needs));
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &in->type, needs, &in->buffer));
    }
    for (size_t i = 0; i < outputs->count; i++) {
        struct tensor *out = &session->output[i];
        CHECK(LiteRtGetSignatureOutputName(signature, i, &outputs->name[i]));
        CHECK(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor));
        CHECK(LiteRtGetRankedTensorType(tensor, &out->type));
        CHECK(LiteRtGetCompiledModelOutputBufferRequirements(session->model, 0, i, &needs));
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &out->type, needs, &out->buffer));
    }
    return session;
}

/* ---- inputs and outputs ---- */

static const char *descr_of(const struct tensor *tensor)
{
    switch (tensor->type.element_type) {
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
    }
    refuse("artifact", "the file has a tensor of type %d, which the native runner does not know",
           tensor->type.element_type);
}

static void *lock(struct tensor *tensor, int mode, size_t *size)
{
    void *data;
    CHECK(LiteRtGetTensorBufferPackedSize(tensor->buffer, size));
    CHECK(LiteRtLockTensorBuffer(tensor->buffer, &data, mode));
    return data;
}

void feed(struct session *session, const struct job *job)
{
    if (session->inputs.count != job->inputs)
        refuse("input", "the artifact takes %zu inputs, not %zu", session->inputs.count, job->inputs);
    for (size_t i = 0; i < session->inputs.count; i++) {
        struct tensor *tensor = &session->input[i];
        const char *name = session->inputs.name[i];
        struct array given;
        size_t size;
        FILE *in = open_npy(input_file(job, name), &given);
        if (strcmp(given.descr, descr_of(tensor)))
            refuse("input", "input %s must be of type %s", name, descr_of(tensor));
        void *data = lock(tensor, LITERT_WRITE, &size);
        read_values(in, name, data, size);
        CHECK(LiteRtUnlockTensorBuffer(tensor->buffer));
    }
}

void run(struct session *session)
{
    LiteRtTensorBuffer inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    for (size_t i = 0; i < session->inputs.count; i++)
        inputs[i] = session->input[i].buffer;
    for (size_t i = 0; i < session->outputs.count; i++)
        outputs[i] = session->output[i].buffer;
    check(LiteRtRunCompiledModel(session->model, 0, session->inputs.count, inputs, session->outputs.count, outputs),
          "input", "LiteRtRunCompiledModel");
    /* A GPU works on while the call has returned: until the outputs are there. */
    for (size_t i = 0; session->gpu && i < session->outputs.count; i++) {
        size_t size;
        lock(&session->output[i], LITERT_READ, &size);
        CHECK(LiteRtUnlockTensorBuffer(outputs[i]));
    }
}

void save(struct session *session, const char *which, long number)
{
    for (size_t i = 0; i < session->outputs.count; i++) {
        struct tensor *tensor = &session->output[i];
        struct array array = {.descr = descr_of(tensor), .rank = tensor->type.rank};
        size_t size;
        for (unsigned axis = 0; axis < array.rank && axis < MAX_RANK; axis++)
            array.shape[axis] = tensor->type.dimensions[axis];
        void *data = lock(tensor, LITERT_READ, &size);
        write_npy(output_file(which, number, i), &array, data, size);
        CHECK(LiteRtUnlockTensorBuffer(tensor->buffer));
    }
}

/* ---- times by operator ---- */

void profile(const struct job *job, struct operators *operators, int (*more)(int calls))
{
    static LiteRtProfilerEvent events[2 * MAX_OPERATORS];
    struct session *session = load(job, 1);
    LiteRtProfiler profiler;
    int calls = 0;
    feed(session, job);
    CHECK(LiteRtCompiledModelGetProfiler(session->model, &profiler));
    for (; more(calls); calls++) {
        int event_count, number = 0;
        CHECK(LiteRtResetProfiler(profiler));
        CHECK(LiteRtStartProfiler(profiler));
        run(session);
        CHECK(LiteRtStopProfiler(profiler));
        CHECK(LiteRtGetNumProfilerEvents(profiler, &event_count));
        if (event_count > 2 * MAX_OPERATORS)
            return;
        CHECK(LiteRtGetProfilerEvents(profiler, event_count, events));
        for (int i = 0; i < event_count && number < MAX_OPERATORS; i++)
            if (events[i].kind & LITERT_OPERATOR_EVENTS) {
                snprintf(operators->kind[number], sizeof *operators->kind, "%s", events[i].tag);
                snprintf(operators->name[number], sizeof *operators->name, "%d %s", number, events[i].tag);
                if (calls)
                    add_time(operators, number, events[i].elapsed_us * 1000);
                number++;
            }
        operators->number = number;
    }
    operators->calls = calls;
}
