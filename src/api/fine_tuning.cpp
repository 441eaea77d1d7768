#include "api/settle.h"
#include "run/trainer.h"
#include "thimble/thimble.h"

namespace thimble {

struct FineTuning::Run {
  std::vector<std::string> notes;
  Events events = Events::silent([this](const std::string& note) { notes.push_back(note); });
  std::unique_ptr<Trainer> trainer;
};

FineTuning::FineTuning(std::unique_ptr<Run> run) : run_(std::move(run)) {}
FineTuning::FineTuning(FineTuning&&) noexcept = default;
FineTuning::~FineTuning() = default;

Result<FineTuning> FineTuning::plan(const Recipe& recipe) {
  settle_process();
  auto run = std::make_unique<Run>();
  run->trainer = TRY(Trainer::prepare(recipe, run->events));
  run->events.plan(run->trainer->plan().ledger);
  return FineTuning(std::move(run));
}

const Ledger& FineTuning::ledger() const { return run_->trainer->plan().ledger; }
const std::vector<std::string>& FineTuning::notes() const { return run_->notes; }

Result<void> FineTuning::run(const OnStep& on_step) {
  bool stop = false;
  run_->events.on_step([&](const StepEvent& step) { stop = on_step && !on_step(step); });
  run_->trainer->stop_when([&] { return stop; });
  return run_->events.end(run_->trainer->run());
}

}  // namespace thimble
