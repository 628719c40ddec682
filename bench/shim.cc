/* SPDX-License-Identifier: ISC */
#include "bench/shim.h"

#include <benchmark/benchmark.h>

#include <chrono>
#include <string>
#include <vector>

using Clock = std::chrono::steady_clock;

struct shim_run {
    benchmark::State *state;
    Clock::time_point started;
    double seconds;
};

void shim_start(shim_run *run)
{
    run->started = Clock::now();
}

void shim_stop(shim_run *run)
{
    shim_add(run, std::chrono::duration<double>(Clock::now() - run->started).count());
}

void shim_add(shim_run *run, double seconds)
{
    run->seconds += seconds;
}

void shim_fail(shim_run *run, const char *why)
{
    run->state->SkipWithError(why);
}

void shim_register(const char *name, shim_fn fn, void *ctx)
{
    benchmark::RegisterBenchmark(name,
                                 [fn, ctx](benchmark::State &state) {
                                     for (auto _ : state) {
                                         (void)_;
                                         shim_run run{&state, Clock::now(), 0};
                                         fn(ctx, &run);
                                         state.SetIterationTime(run.seconds);
                                     }
                                 })
        ->Iterations(1)
        ->UseManualTime();
}

namespace
{

class Forwarder : public benchmark::BenchmarkReporter
{
  public:
    Forwarder(shim_done_fn done, void *ctx) : done_(done), ctx_(ctx)
    {
    }
    bool ReportContext(const Context &) override
    {
        return true;
    }
    void ReportRuns(const std::vector<Run> &runs) override
    {
        for (const Run &run : runs)
            done_(ctx_, run.run_name.function_name.c_str(), run.real_accumulated_time,
                  run.error_occurred ? run.error_message.c_str() : nullptr);
    }

  private:
    shim_done_fn done_;
    void *ctx_;
};

} // namespace

unsigned shim_run_all(const char *filter, shim_done_fn done, void *ctx)
{
    char program[] = "cambium-bench";
    char *argv[] = {program, nullptr};
    int argc = 1;
    benchmark::Initialize(&argc, argv);
    Forwarder forwarder(done, ctx);
    return static_cast<unsigned>(benchmark::RunSpecifiedBenchmarks(&forwarder, filter ? filter : "."));
}
