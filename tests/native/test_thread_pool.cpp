// Nothing here asserts a wall-clock time; what would wait for ever is stopped by the test runner.
#include "thread_pool.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <ctime>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "samples.h"

namespace lepton {
namespace {

// Σ i over [0, count), each worker adding to a number of its own.
size_t sum_below(ThreadPool& pool, size_t count, size_t grain) {
  struct alignas(64) Share {
    size_t sum = 0;
  };
  std::vector<Share> shares(static_cast<size_t>(pool.threads()));
  pool.parallel_for(count, grain, [&](size_t begin, size_t end, int worker) {
    for (size_t i = begin; i < end; ++i) shares[static_cast<size_t>(worker)].sum += i;
  });
  return std::accumulate(shares.begin(), shares.end(), size_t{0},
                         [](size_t sum, const Share& share) { return sum + share.sum; });
}

// The processors this thread may run on.
std::vector<int> allowed_processors() {
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  std::vector<int> processors;
  for (int p = 0; p < CPU_SETSIZE; ++p)
    if (CPU_ISSET(p, &allowed)) processors.push_back(p);
  return processors;
}

void run_on(const std::vector<int>& processors) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  for (const int p : processors) CPU_SET(p, &allowed);
  sched_setaffinity(0, sizeof allowed, &allowed);
}

// Processes that keep one processor busy.
class Neighbours {
 public:
  Neighbours(int count, int processor) {
    for (int i = 0; i < count; ++i) {
      const pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_on({processor});
        for (std::atomic<unsigned> turns = 0;;) ++turns;
      }
      children_.push_back(child);
    }
  }
  ~Neighbours() {
    for (const pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

 private:
  std::vector<pid_t> children_;
};

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

TEST_CASE("every index is visited once, in chunks that begin at multiples of the grain") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const size_t count : {0, 1, 2, 15, 16, 17, 1000, 4099}) {
      for (const size_t grain : {1, 3, 16, 5000}) {
        std::vector<std::atomic<int>> visits(count);
        std::atomic<int> faults = 0;
        pool.parallel_for(count, grain, [&](size_t begin, size_t end, int worker) {
          faults += begin >= end || begin % grain != 0 || worker < 0 || worker >= threads;
          for (size_t i = begin; i < end; ++i) ++visits.at(i);
        });
        CHECK(faults == 0);
        CHECK(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; }));
      }
    }
  }
}

TEST_CASE("the number of threads is checked") {
  for (const int threads : {-1, 0, 1025})
    CHECK_THROWS_AS(ThreadPool{threads}, std::invalid_argument);
  CHECK(ThreadPool(1024).threads() == 1024);
}

TEST_CASE("a stuck worker keeps no more than its own chunk") {
  ThreadPool pool(3);
  constexpr size_t kCount = 1000;
  std::atomic<bool> stuck = false;
  std::atomic<size_t> done = 0;
  pool.parallel_for(kCount, 1, [&](size_t begin, size_t end, int worker) {
    if (worker == 0) stuck.wait(false);
    if (worker != 0 && !stuck.exchange(true)) {
      stuck.notify_all();
      while (done != kCount - (end - begin)) std::this_thread::yield();
    }
    done += end - begin;
  });
  CHECK(done == kCount);
}

TEST_CASE("a thread whose core is busy leaves work to the others") {
  const std::vector<int> processors = allowed_processors();
  if (processors.size() < 2) return;  // there is no other
  ThreadPool pool(2);
  std::atomic<int> pinned = 0;
  pool.parallel_for(2, 1, [&](size_t, size_t, int worker) {
    run_on({processors[static_cast<size_t>(worker)]});
    for (++pinned; pinned != 2;) std::this_thread::yield();
  });
  const Neighbours neighbours(8, processors[1]);
  constexpr size_t kCount = 1000;
  std::atomic<uint64_t> results = 0;
  // A share near one half is what a fixed division would give every time. The other core may be
  // busy too, now and then.
  bool shifted = false;
  for (int loop = 0; loop < 50 && !shifted; ++loop) {
    size_t done[2] = {0, 0};
    pool.parallel_for(kCount, 1, [&](size_t begin, size_t end, int worker) {
      Random random(begin);
      uint64_t mixed = 0;
      for (size_t i = 0; i < (end - begin) * 5000; ++i) mixed ^= random.next();
      results ^= mixed;
      done[worker] += end - begin;
    });
    REQUIRE(done[0] + done[1] == kCount);
    shifted = done[1] < kCount / 3;
  }
  run_on(processors);
  CHECK(shifted);
}

TEST_CASE("many short loops") {
  ThreadPool pool(4);
  Random random(1);
  for (int i = 0; i < 5000; ++i) {
    const size_t count = random.below(200);
    const size_t expected = count == 0 ? 0 : count * (count - 1) / 2;
    REQUIRE(sum_below(pool, count, 1 + random.below(9)) == expected);
  }
}

TEST_CASE("loops after naps wake the workers") {
  ThreadPool pool(2);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<bool> helped = false;
    pool.parallel_for(2, 1, [&](size_t, size_t, int worker) {
      if (worker == 0) helped.wait(false);
      if (worker != 0) helped = true;
      helped.notify_all();
    });
    CHECK(helped);
  }
}

TEST_CASE("pools work side by side, come and go") {
  std::atomic<int> faults = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 10; ++round) {
        ThreadPool pool(3);
        for (int i = 0; i < 50; ++i) faults += sum_below(pool, 100, 1) != 4950;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(faults == 0);
}

TEST_CASE("idle workers use no processor time") {
  ThreadPool pool(4);
  sum_below(pool, 1000, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  CHECK(processor_seconds() - before < 0.05);
}

TEST_CASE("a child process starts workers of its own") {
  ThreadPool pool(3);
  REQUIRE(sum_below(pool, 1000, 1) == 499500);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int faults = sum_below(pool, 1000, 1) != 499500;
    {
      ThreadPool another(2);
      faults += sum_below(another, 100, 1) != 4950;
    }
    _exit(faults);
  }
  CHECK(sum_below(pool, 1000, 1) == 499500);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("workers that cannot be started are reported, and started when they can be") {
  pthread_attr_t usual, huge;
  pthread_getattr_default_np(&usual);
  pthread_attr_init(&huge);
  pthread_attr_setstacksize(&huge, size_t{1} << 62);
  REQUIRE(pthread_setattr_default_np(&huge) == 0);
  ThreadPool pool(2);
  CHECK_THROWS_AS(sum_below(pool, 100, 1), std::system_error);
  REQUIRE(pthread_setattr_default_np(&usual) == 0);
  CHECK(sum_below(pool, 100, 1) == 4950);
  pthread_attr_destroy(&huge);
  pthread_attr_destroy(&usual);
}

TEST_CASE("subnormal numbers count as zero within a loop, and only there") {
  ThreadPool pool(2);
  volatile float tiny = 1e-40f;
  std::vector<float> twice(64, 1.0f);
  pool.parallel_for(64, 1, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) twice[i] = tiny * 2.0f;
  });
  CHECK(std::all_of(twice.begin(), twice.end(), [](float x) { return x == 0.0f; }));
  CHECK(tiny * 2.0f > 0.0f);
}

}  // namespace lepton
