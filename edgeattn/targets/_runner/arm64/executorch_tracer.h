/* Takes the times of an ExecuTorch program's operators: of its own kernels, and of what a backend tells of its kernels. */
#pragma once
#include <executorch/runtime/core/event_tracer.h>

#include <cstdio>
#include <cstring>

#define _Noreturn [[noreturn]]
extern "C" {
#include "session.h"
}

class Tracer final : public executorch::runtime::EventTracer {
    template <typename T> using Result = executorch::runtime::Result<T>;
    using Entry = executorch::runtime::EventTracerEntry;
    using Id = executorch::runtime::DelegateDebugIntId;

public:
    explicit Tracer(struct operators *operators) : operators_(operators) {}

    void begin_call(bool timed)
    {
        timed_ = timed;
        operators_->number = 0;
    }

    /* A kernel's event has its name; that of the call around it has not. */
    Entry start_profiling(const char *name, executorch::runtime::ChainID chain,
                          executorch::runtime::DebugHandle handle) override
    {
        static const char KERNEL[] = "native_call_";
        bool is_kernel = !strncmp(name, KERNEL, strlen(KERNEL));
        int64_t number = is_kernel ? add(name + strlen(KERNEL)) : -1;
        return {number, chain, handle, executorch::runtime::pal_current_ticks(), {}};
    }

    void end_profiling(Entry entry) override
    {
        time((int)entry.event_id, entry.start_time, executorch::runtime::pal_current_ticks());
    }

    void log_profiling_delegate(const char *name, Id, et_timestamp_t start, et_timestamp_t end, const void *,
                                size_t) override
    {
        time(add(name ? name : "delegate"), start, end);
    }

    void create_event_block(const char *) override {}
    Entry start_profiling_delegate(const char *, Id) override { return {}; }
    void end_profiling_delegate(Entry, const void *, size_t) override {}
    void track_allocation(executorch::runtime::AllocatorID, size_t) override {}
    executorch::runtime::AllocatorID track_allocator(const char *) override { return 0; }
    void set_delegation_intermediate_output_filter(executorch::runtime::EventTracerFilterBase *) override {}
    Result<bool> log_evalue(const executorch::runtime::EValue &, executorch::runtime::LoggedEValueType) override
    {
        return false;
    }
    Result<bool> log_intermediate_output_delegate(const char *, Id, const executorch::aten::Tensor &) override
    {
        return false;
    }
    Result<bool> log_intermediate_output_delegate(
        const char *, Id, const executorch::runtime::ArrayRef<executorch::aten::Tensor>) override
    {
        return false;
    }
    Result<bool> log_intermediate_output_delegate(const char *, Id, const int &) override { return false; }
    Result<bool> log_intermediate_output_delegate(const char *, Id, const bool &) override { return false; }
    Result<bool> log_intermediate_output_delegate(const char *, Id, const double &) override { return false; }

private:
    struct operators *operators_;
    bool timed_ = false;

    /* Its number; -1 if there are too many. XNNPACK numbers its kernels of one kind: "Convolution (NHWC, F32) IGEMM #2". */
    int add(const char *name)
    {
        if (operators_->number == MAX_OPERATORS)
            return -1;
        int i = operators_->number++;
        size_t kind = strcspn(name, "#");
        if (kind && name[kind] && name[kind - 1] == ' ')
            kind--;
        snprintf(operators_->kind[i], sizeof *operators_->kind, "%.*s", (int)kind, name);
        snprintf(operators_->name[i], sizeof *operators_->name, "%d %s", i, name);
        return i;
    }

    void time(int number, et_timestamp_t start, et_timestamp_t end)
    {
        auto ratio = executorch::runtime::pal_ticks_to_ns_multiplier();
        if (timed_ && number >= 0)
            add_time(operators_, number, (int64_t)((end - start) * ratio.numerator / ratio.denominator));
    }
};
