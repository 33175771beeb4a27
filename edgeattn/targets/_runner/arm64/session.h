/* One .tflite in LiteRT and XNNPACK: loaded, fed, run, and its outputs saved. Part of runner.c; after job.h. */

static void check(LiteRtStatus status, const char *kind, const char *what)
{
    if (status)
        refuse(kind, "LiteRT refuses the %s (%s: status %d)", strcmp(kind, "input") ? "file" : "inputs", what, status);
}
#define CHECK(call) check(call, "artifact", #call)

static void *lock(struct tensor *tensor, int mode, size_t *size)
{
    void *data;
    CHECK(LiteRtGetTensorBufferPackedSize(tensor->buffer, size));
    CHECK(LiteRtLockTensorBuffer(tensor->buffer, &data, mode));
    return data;
}

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

static void load(struct session *session, const struct job *job, int profiled)
{
    LiteRtEnvironment environment;
    LiteRtModel model;
    LiteRtSignature signature;
    LiteRtTensor tensor;
    LiteRtTensorBufferRequirements needs;
    CHECK(LiteRtCreateEnvironment(0, NULL, &environment));
    CHECK(LiteRtCreateModelFromFile(environment, job->artifact, &model));
    CHECK(LiteRtCreateCompiledModel(environment, model, make_options(job->threads, profiled), &session->model));
    CHECK(LiteRtGetModelSignature(model, 0, &signature));
    CHECK(LiteRtGetNumSignatureInputs(signature, &session->inputs));
    CHECK(LiteRtGetNumSignatureOutputs(signature, &session->outputs));
    if (session->inputs > MAX_TENSORS || session->outputs > MAX_TENSORS)
        refuse("artifact", "the native runner takes up to %d inputs and outputs", MAX_TENSORS);
    for (size_t i = 0; i < session->inputs; i++) {
        struct tensor *in = &session->input[i];
        CHECK(LiteRtGetSignatureInputName(signature, i, &in->name));
        CHECK(LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor));
        CHECK(LiteRtGetRankedTensorType(tensor, &in->type));
        CHECK(LiteRtGetCompiledModelInputBufferRequirements(session->model, 0, i, &needs));
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &in->type, needs, &in->buffer));
    }
    for (size_t i = 0; i < session->outputs; i++) {
        struct tensor *out = &session->output[i];
        CHECK(LiteRtGetSignatureOutputName(signature, i, &out->name));
        CHECK(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor));
        CHECK(LiteRtGetRankedTensorType(tensor, &out->type));
        CHECK(LiteRtGetCompiledModelOutputBufferRequirements(session->model, 0, i, &needs));
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &out->type, needs, &out->buffer));
    }
}

static void feed(struct session *session, const struct job *job)
{
    if (session->inputs != job->inputs)
        refuse("input", "the artifact takes %zu inputs, not %zu", session->inputs, job->inputs);
    for (size_t i = 0; i < session->inputs; i++) {
        struct tensor *tensor = &session->input[i];
        size_t size, index = 0;
        while (index < job->inputs && strcmp(job->input[index].name, tensor->name))
            index++;
        if (index == job->inputs)
            refuse("input", "the artifact takes %s, which is not given", tensor->name);
        void *data = lock(tensor, LITERT_WRITE, &size);
        read_npy(job->input[index].file, tensor, data, size);
        CHECK(LiteRtUnlockTensorBuffer(tensor->buffer));
    }
}

static void run(struct session *session)
{
    LiteRtTensorBuffer inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    for (size_t i = 0; i < session->inputs; i++)
        inputs[i] = session->input[i].buffer;
    for (size_t i = 0; i < session->outputs; i++)
        outputs[i] = session->output[i].buffer;
    check(LiteRtRunCompiledModel(session->model, 0, session->inputs, inputs, session->outputs, outputs), "input",
          "LiteRtRunCompiledModel");
}

/* `number` 0 is none. */
static void save(struct session *session, const char *which, long number)
{
    for (size_t i = 0; i < session->outputs; i++) {
        struct tensor *tensor = &session->output[i];
        char file[64];
        size_t size;
        if (number)
            snprintf(file, sizeof file, "%s-%ld-%zu.npy", which, number, i);
        else
            snprintf(file, sizeof file, "%s-%zu.npy", which, i);
        void *data = lock(tensor, LITERT_READ, &size);
        write_npy(file, tensor, data, size);
        CHECK(LiteRtUnlockTensorBuffer(tensor->buffer));
    }
}
