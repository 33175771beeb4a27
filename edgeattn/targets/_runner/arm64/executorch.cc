/* A .pte file in ExecuTorch: its XNNPACK backend, and its own kernels for what that leaves. ExecuTorch has no interface
 * in C. */
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr.h>
#include <executorch/runtime/platform/platform.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "executorch_tracer.h"

extern "C" {
const char *runtime = "executorch";
extern const char profiler_note[] = "ExecuTorch's event tracer, which takes time itself; its XNNPACK backend "
                                    "has steps of 1 us, and does not tell which layer a kernel is of";
}

#define EXECUTORCH_VERSION "1.5.1"

/* As in extension/threadpool/threadpool.h, which the wheel has not. */
namespace executorch::extension::threadpool {
class ThreadPool {
public:
    size_t get_thread_count() const;
    bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
} // namespace executorch::extension::threadpool

using namespace executorch;
using extension::Module;
using runtime::Error;
using runtime::EValue;
using runtime::Result;

/* A tensor of the file: its values lie in memory by `order`, the outermost axis first. */
struct tensor {
    array about;
    std::vector<uint8_t> order;
    aten::ScalarType type;
    size_t size;
    std::vector<char> data;
    extension::TensorPtr view;
};

struct session {
    std::unique_ptr<Module> module;
    std::vector<std::string> texts; /* of the names */
    names inputs, outputs;
    std::vector<tensor> input;
    std::vector<EValue> fed, results;
};

/* ---- what ExecuTorch says ---- */

/* The first complaint since the last call: what follows is only that a caller could not go on. */
static char complaint[512];

static void note(et_timestamp_t, et_pal_log_level_t level, const char *, const char *, size_t, const char *message,
                 size_t length)
{
    if ((level == kError || level == kFatal) && !*complaint)
        snprintf(complaint, sizeof complaint, "%.*s", (int)length, message);
}

static void check(Error error, const char *kind)
{
    if (error == Error::Ok)
        return;
    const char *what = *complaint ? complaint : runtime::to_string(error);
    refuse(kind, "ExecuTorch %s: %s", strcmp(kind, "input") ? "refuses the file" : "fails on these inputs", what);
}

/* The value of a result, unless it is an error. */
template <typename T> static T checked(Result<T> result, const char *kind = "artifact")
{
    check(result.error(), kind);
    *complaint = 0;
    return std::move(result.get());
}

const char *runtime_version(void)
{
    return EXECUTORCH_VERSION;
}

const struct names *outputs_of(const struct session *session)
{
    return &session->outputs;
}

/* ---- tensors ---- */

static const char *descr_of(aten::ScalarType type)
{
    switch (type) {
    case aten::ScalarType::Byte: return "|u1";
    case aten::ScalarType::Char: return "|i1";
    case aten::ScalarType::Short: return "<i2";
    case aten::ScalarType::Int: return "<i4";
    case aten::ScalarType::Long: return "<i8";
    case aten::ScalarType::Half: return "<f2";
    case aten::ScalarType::Float: return "<f4";
    case aten::ScalarType::Double: return "<f8";
    case aten::ScalarType::Bool: return "|b1";
    default: refuse("artifact", "the file has a tensor of type %d, which the native runner does not know", (int)type);
    }
}

template <typename Sizes, typename Order>
static tensor describe(const Sizes &sizes, const Order &order, aten::ScalarType type, size_t size)
{
    tensor tensor = {{descr_of(type), (unsigned)sizes.size(), {}}, {order.begin(), order.end()}, type, size, {}, {}};
    if (sizes.size() > MAX_RANK)
        refuse("artifact", "the file has a tensor of %zu axes, and the native runner takes up to %d", sizes.size(),
               MAX_RANK);
    std::copy(sizes.begin(), sizes.end(), tensor.about.shape);
    return tensor;
}

/* Copy values between numpy's order and the file's; ExecuTorch takes and gives its own, whatever an array's is. */
static void reorder(const tensor &tensor, const char *from, char *to, bool to_file)
{
    int64_t steps[MAX_RANK], place[MAX_RANK] = {};
    size_t item = item_size(tensor.about.descr);
    int64_t step = 1;
    for (int axis = (int)tensor.about.rank - 1; axis >= 0; axis--) {
        steps[axis] = step;
        step *= tensor.about.shape[axis];
    }
    for (size_t i = 0; i < tensor.size; i += item) {
        int64_t numpys = 0;
        for (unsigned axis = 0; axis < tensor.about.rank; axis++)
            numpys += place[axis] * steps[axis];
        memcpy(to + (to_file ? i : numpys * item), from + (to_file ? numpys * item : i), item);
        for (int k = (int)tensor.about.rank - 1; k >= 0; k--) {
            unsigned axis = tensor.order[k];
            if (++place[axis] < tensor.about.shape[axis])
                break;
            place[axis] = 0;
        }
    }
}

/* ---- loading ---- */

/* The names that the file gives for its inputs or outputs, or those by place. */
static names names_of(session *session, const char *method, const char *side, size_t count)
{
    names names = {count, {}};
    std::vector<EValue> given;
    if (count > MAX_TENSORS)
        refuse("artifact", "the native runner takes up to %d inputs and outputs", MAX_TENSORS);
    if (checked(session->module->method_names()).count(method))
        given = checked(session->module->execute(method));
    bool by_place = given.size() != count;
    for (size_t i = 0; i < count; i++) {
        if (by_place || !given[i].isString())
            session->texts.push_back(side + ("_" + std::to_string(i)));
        else
            session->texts.emplace_back(given[i].toString());
        names.name[i] = session->texts.back().c_str();
    }
    return names;
}

static session *load_traced(const job *job, std::unique_ptr<runtime::EventTracer> tracer)
{
    auto pool = extension::threadpool::get_threadpool();
    if (job->gpu)
        refuse("input", "the native runner of ExecuTorch has the CPU only");
    if (pool->get_thread_count() != (size_t)job->threads)
        pool->_unsafe_reset_threadpool(job->threads);
    session *session = new struct session;
    session->module = std::make_unique<Module>(job->artifact, Module::LoadMode::File, std::move(tracer));
    session->texts.reserve(2 * MAX_TENSORS); /* their addresses stay */
    auto method = checked(session->module->method_meta("forward"));
    session->inputs = names_of(session, "input_names", "input", method.num_inputs());
    session->outputs = names_of(session, "output_names", "output", method.num_outputs());
    for (size_t i = 0; i < session->inputs.count; i++) {
        if (checked(method.input_tag(i)) != runtime::Tag::Tensor)
            refuse("artifact", "the input %s is no tensor, which the native runner does not know",
                   session->inputs.name[i]);
        auto info = checked(method.input_tensor_meta(i));
        session->input.push_back(describe(info.sizes(), info.dim_order(), info.scalar_type(), info.nbytes()));
    }
    check(session->module->load_forward(), "artifact");
    return session;
}

session *load(const job *job, int)
{
    runtime::register_pal(runtime::PalImpl::create(note, __FILE__));
    return load_traced(job, nullptr);
}

/* ---- inputs and outputs ---- */

void feed(session *session, const job *job)
{
    if (session->inputs.count != job->inputs)
        refuse("input", "the artifact takes %zu inputs, not %zu", session->inputs.count, job->inputs);
    session->fed.clear();
    for (size_t i = 0; i < session->inputs.count; i++) {
        tensor &tensor = session->input[i];
        const char *name = session->inputs.name[i];
        std::vector<char> values(tensor.size);
        array given;
        FILE *in = open_npy(input_file(job, name), &given);
        if (strcmp(given.descr, tensor.about.descr))
            refuse("input", "input %s must be of type %s", name, tensor.about.descr);
        if (given.rank != tensor.about.rank || !std::equal(given.shape, given.shape + given.rank, tensor.about.shape))
            refuse("input", "input %s has another shape than the file takes", name);
        read_values(in, name, values.data(), tensor.size);
        tensor.data.resize(tensor.size);
        reorder(tensor, values.data(), tensor.data.data(), true);
        std::vector<aten::SizesType> sizes(tensor.about.shape, tensor.about.shape + tensor.about.rank);
        tensor.view = extension::make_tensor_ptr(sizes, tensor.data.data(), tensor.order, {}, tensor.type);
        session->fed.emplace_back(tensor.view);
    }
}

void run(session *session)
{
    session->results = checked(session->module->forward(session->fed), "input");
}

void save(session *session, const char *which, long number)
{
    for (size_t i = 0; i < session->outputs.count; i++) {
        const EValue &value = session->results[i];
        if (!value.isTensor())
            refuse("artifact", "the output %s is no tensor, which the native runner does not know",
                   session->outputs.name[i]);
        const aten::Tensor &result = value.toTensor();
        tensor tensor = describe(result.sizes(), result.dim_order(), result.scalar_type(), result.nbytes());
        tensor.data.resize(tensor.size);
        reorder(tensor, result.const_data_ptr<char>(), tensor.data.data(), false);
        write_npy(output_file(which, number, i), &tensor.about, tensor.data.data(), tensor.size);
    }
}

/* ---- times by operator ---- */

void profile(const struct job *job, struct operators *operators, int (*more)(int calls))
{
    auto owned = std::make_unique<Tracer>(operators);
    Tracer *tracer = owned.get();
    session *session = load_traced(job, std::move(owned));
    int calls = 0;
    feed(session, job);
    for (; more(calls); calls++) {
        tracer->begin_call(calls > 0);
        run(session);
    }
    operators->calls = calls;
}
