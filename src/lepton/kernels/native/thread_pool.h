// A persistent pool of workers that share one loop at a time.
#pragma once

#include <cstddef>
#include <memory>

namespace lepton {

// The calling thread takes part in the work. Workers start with the first loop, take chunks until
// none is left (so that a descheduled core does not hold up the rest), spin briefly between loops
// and then sleep. Not reentrant: one loop at a time. After fork() the child starts workers anew.
class ThreadPool {
 public:
  // Throws std::invalid_argument outside 1 … 1024.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls body(begin, end, worker) over [0, count) in chunks that shrink towards the end of the
  // loop and begin at multiples of `grain`, the least worth a call; returns when all are done.
  // `worker` is in [0, threads()). The body must not throw. Throws std::system_error when the
  // workers cannot be started.
  template <class Body>
  void parallel_for(size_t count, size_t grain, const Body& body) {
    if (count == 0) return;
    run(count, grain, &body, [](const void* b, size_t begin, size_t end, int worker) noexcept {
      (*static_cast<const Body*>(b))(begin, end, worker);
    });
  }

  // Called in the child of a fork.
  void forget_workers();

 private:
  using Invoke = void (*)(const void*, size_t, size_t, int) noexcept;
  class Workers;

  void run(size_t count, size_t grain, const void* body, Invoke invoke);

  const int threads_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace lepton
