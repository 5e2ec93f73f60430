#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lepton {

namespace {

// Long enough for the serial part between two loops of a step, far shorter than a time slice: a
// thread that waits for a descheduled one gives its core away, and the kernel moves the other
// there.
constexpr std::chrono::microseconds kSpinTime{50};

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Returns when `ready` holds or kSpinTime has passed.
template <class Ready>
void spin_until(const Ready& ready) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return;
      pause_briefly();
    }
  } while (Clock::now() - begin < kSpinTime);
}

// Flushing denormals to zero avoids stalls of a hundred cycles; the caller gets its mode back.
class DenormalsAsZero {
 public:
#if defined(__x86_64__)
  DenormalsAsZero() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~DenormalsAsZero() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DenormalsAsZero() : saved_(__builtin_aarch64_get_fpcr()) {
    __builtin_aarch64_set_fpcr(saved_ | 1u << 24);
  }
  ~DenormalsAsZero() { __builtin_aarch64_set_fpcr(saved_); }

 private:
  unsigned saved_;
#endif
};

// How a loop is cut: every round hands each thread one chunk, about half of what is left in all,
// until chunks are one grain. Cf. Hummel, Schonberg, Flynn: "Factoring", CACM 35(8), 1992.
class Schedule {
 public:
  explicit Schedule(size_t threads) : threads_(threads) {}

  void cut(size_t count, size_t grain) {
    count_ = count;
    last_ = 0;
    size_t begin = 0, left = (count - 1) / grain + 1;
    for (;; ++last_) {
      const size_t size = std::max<size_t>(1, left / (2 * threads_));
      rounds_[last_] = {begin * grain, size * grain};
      if (size == 1) break;
      begin += size * threads_;
      left -= size * threads_;
    }
    chunks_ = last_ * threads_ + left;
  }

  size_t chunks() const { return chunks_; }

  // [begin, end)
  std::pair<size_t, size_t> chunk(size_t index) const {
    const size_t round = std::min(index / threads_, last_);
    const auto& [first, size] = rounds_[round];
    const size_t begin = first + (index - round * threads_) * size;
    return {begin, std::min(begin + size, count_)};
  }

 private:
  struct Round {
    size_t begin, size;
  };
  const size_t threads_;
  size_t count_ = 0, chunks_ = 0, last_ = 0;
  std::array<Round, 80> rounds_;  // of 64 bits each takes one, and a few more for rounding
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

// State shared with the workers. Whoever counts `tickets` down from above zero owns one chunk of
// the loop that is open now, and the loop lasts until that chunk is reported: only then does a
// thread read the loop's fields, and the caller never waits for a worker that has not woken up or
// found nothing to do.
class ThreadPool::Workers {
 public:
  explicit Workers(int threads) : schedule_(static_cast<size_t>(threads)) {
    threads_.reserve(static_cast<size_t>(threads) - 1);
    try {
      for (int worker = 1; worker < threads; ++worker)
        threads_.emplace_back([this, worker] { work(worker); });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Workers() { stop(); }

  void run(size_t count, size_t grain, const void* body, Invoke invoke) {
    schedule_.cut(count, grain);
    body_ = body;
    invoke_ = invoke;
    const auto chunks = static_cast<int32_t>(schedule_.chunks());
    unfinished_.store(chunks, std::memory_order_relaxed);
    tickets_.store(chunks, std::memory_order_release);
    loops_.fetch_add(1, std::memory_order_release);
    loops_.notify_all();
    take_chunks(0);
    const auto left = [this] { return unfinished_.load(std::memory_order_acquire); };
    spin_until([&] { return left() == 0; });
    for (int32_t seen; (seen = left()) != 0;) unfinished_.wait(seen, std::memory_order_acquire);
  }

 private:
  void stop() {
    stop_.store(true, std::memory_order_relaxed);
    loops_.fetch_add(1, std::memory_order_release);
    loops_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void work(int worker) {
    [[maybe_unused]] const DenormalsAsZero mode{};
    for (;;) {
      const uint32_t seen = loops_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      const auto ready = [this] { return tickets_.load(std::memory_order_relaxed) > 0; };
      spin_until(ready);
      if (ready())
        take_chunks(worker);
      else
        loops_.wait(seen, std::memory_order_acquire);
    }
  }

  void take_chunks(int worker) {
    int32_t done = 0, ticket;
    for (; (ticket = tickets_.fetch_sub(1, std::memory_order_acq_rel)) > 0; ++done) {
      const auto [begin, end] = schedule_.chunk(schedule_.chunks() - static_cast<size_t>(ticket));
      invoke_(body_, begin, end, worker);
    }
    if (done != 0 && unfinished_.fetch_sub(done, std::memory_order_acq_rel) == done && worker != 0)
      unfinished_.notify_one();
  }

  // The loop.
  alignas(64) const void* body_ = nullptr;
  Invoke invoke_ = nullptr;
  Schedule schedule_;

  alignas(64) std::atomic<int32_t> tickets_{0};
  alignas(64) std::atomic<int32_t> unfinished_{0};
  alignas(64) std::atomic<uint32_t> loops_{0};  // begun so far; idle workers sleep on it
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
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

void ThreadPool::run(size_t count, size_t grain, const void* body, Invoke invoke) {
  [[maybe_unused]] const DenormalsAsZero mode{};
  if (threads_ == 1 || count <= grain) {
    invoke(body, 0, count, 0);
    return;
  }
  if (!workers_) workers_ = std::make_unique<Workers>(threads_);
  workers_->run(count, grain, body, invoke);
}

}  // namespace lepton
