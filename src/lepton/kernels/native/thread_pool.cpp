#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <set>
#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lepton {

namespace {

constexpr int kSpins = 4000;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Flushing denormals to zero avoids stalls of a hundred cycles; the caller gets its mode back.
class DenormalsAsZero {
 public:
#if defined(__x86_64__)
  DenormalsAsZero() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~DenormalsAsZero() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#endif
};

std::mutex& registry_mutex() {
  static std::mutex mutex;
  return mutex;
}

std::set<ThreadPool*>& registry() {
  static std::set<ThreadPool*> pools;
  return pools;
}

void register_pool(ThreadPool* pool) {
  static std::once_flag once;
  std::call_once(once, [] {
    pthread_atfork([] { registry_mutex().lock(); }, [] { registry_mutex().unlock(); },
                   [] {
                     for (ThreadPool* p : registry()) p->forget_workers();
                     registry_mutex().unlock();
                   });
  });
  const std::lock_guard lock(registry_mutex());
  registry().insert(pool);
}

}  // namespace

// State shared with the workers. A loop is open while `state` carries the open bit; a worker joins
// it by raising the count below that bit, which fails once the loop is closed, so that the caller
// never waits for a worker that has not woken up. A worker touches the loop's fields only while
// counted.
struct ThreadPool::Workers {
  static constexpr uint32_t kOpen = uint32_t{1} << 31;
  static constexpr uint32_t kJoined = kOpen - 1;

  size_t count = 0;
  size_t chunk = 1;
  const void* body = nullptr;
  Invoke invoke = nullptr;
  alignas(64) std::atomic<uint32_t> generation{0};
  alignas(64) std::atomic<uint32_t> state{0};
  alignas(64) std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;

  explicit Workers(int extra) {
    threads.reserve(static_cast<size_t>(extra));
    try {
      for (int i = 0; i < extra; ++i) threads.emplace_back([this, i] { work(i + 1); });
    } catch (...) {
      join_all();
      throw;
    }
  }

  ~Workers() { join_all(); }

  void join_all() {
    stop = true;
    generation.fetch_add(1);
    generation.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void take_chunks(int worker) {
    for (;;) {
      const size_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= count) return;
      invoke(body, begin, std::min(begin + chunk, count), worker);
    }
  }

  bool join_loop() {
    uint32_t seen = state.load(std::memory_order_acquire);
    while (seen & kOpen)
      if (state.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    return false;
  }

  void work(int worker) {
    const DenormalsAsZero mode;
    uint32_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && generation.load(std::memory_order_acquire) == seen; ++i)
        pause_briefly();
      generation.wait(seen, std::memory_order_acquire);
      seen = generation.load(std::memory_order_acquire);
      if (stop) return;
      if (!join_loop()) continue;
      take_chunks(worker);
      if (state.fetch_sub(1, std::memory_order_acq_rel) == 1) state.notify_one();
    }
  }

  void run(size_t total, size_t step, const void* loop_body, Invoke loop_invoke) {
    count = total;
    chunk = step;
    body = loop_body;
    invoke = loop_invoke;
    next.store(0, std::memory_order_relaxed);
    state.store(kOpen, std::memory_order_release);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    take_chunks(0);
    uint32_t left = state.fetch_and(~kOpen, std::memory_order_acq_rel) & kJoined;
    for (int i = 0; i < kSpins && left != 0; ++i) {
      pause_briefly();
      left = state.load(std::memory_order_acquire);
    }
    while ((left = state.load(std::memory_order_acquire)) != 0)
      state.wait(left, std::memory_order_acquire);
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1 || threads > 1024)
    throw std::invalid_argument("threads must be between 1 and 1024");
  register_pool(this);
}

ThreadPool::~ThreadPool() {
  const std::lock_guard lock(registry_mutex());
  registry().erase(this);
}

void ThreadPool::forget_workers() {
  // The threads do not exist in the child; destroying their handles would terminate it.
  static_cast<void>(workers_.release());
}

void ThreadPool::run(size_t count, size_t chunk, const void* body, Invoke invoke) {
  const DenormalsAsZero mode;
  if (threads_ == 1 || count <= chunk) {
    invoke(body, 0, count, 0);
    return;
  }
  if (!workers_) workers_ = std::make_unique<Workers>(threads_ - 1);
  workers_->run(count, chunk, body, invoke);
}

}  // namespace lepton
