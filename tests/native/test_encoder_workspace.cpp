// The memory that encoders work in.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <new>

#include "encoder_samples.h"
#include "encoder_workspace.h"

namespace lepton {

TEST_CASE("rows stay where they are while there is room") {
  ByteRows rows;
  rows.allocate(10, 100);
  rows.shape(10, 100);
  const uint8_t* const first = rows.row(0);
  CHECK(rows.row(1) - first >= 100);
  rows.allocate(4, 90);
  rows.allocate(10, 20);
  rows.shape(4, 90);
  CHECK(rows.row(0) == first);
  CHECK(rows.row(3) - first == static_cast<long>(3 * rows.stride()));
  rows.allocate(10, 400);
  rows.shape(10, 400);
  CHECK(rows.row(1) - rows.row(0) >= 400);
}

// Sanitizers need memory of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {

// Whether this process, which has `spare` bytes of address space left, is refused more.
bool limit_memory(size_t spare) {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t limit = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + spare;
  const rlimit limits{limit, RLIM_INFINITY};
  if (setrlimit(RLIMIT_AS, &limits) != 0) return false;
  return mmap(nullptr, 2 * spare, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

}  // namespace

TEST_CASE("texts that there is no memory for are refused, and others are not") {
  constexpr int kRefused = 0, kTaken = 1, kWrong = 2, kNoLimit = 3;
  const std::vector<int32_t> few = {5, 7};
  // So many texts are shared by the threads, or give each of them groups of its own.
  for (const size_t count : {4, 60}) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const auto program = small_program("", DenseType::kInt16, 3);
      const std::vector<float> before = vectors_of(*program, few);
      const SampleTexts texts(std::vector<int32_t>(count, 100));
      std::vector<float> out(count * program->hidden());
      if (!limit_memory(size_t{64} << 10)) _exit(kNoLimit);
      try {
        program->forward(texts.batch(), TextPooling::kMean, out.data());
        _exit(kTaken);
      } catch (const std::bad_alloc&) {
      }
      const std::vector<float> after = vectors_of(*program, few);
      _exit(differences(before.data(), after.data(), before.size()) == 0 ? kRefused : kWrong);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == kNoLimit)
      MESSAGE("memory cannot be limited here");
    else
      CHECK(WEXITSTATUS(status) == kRefused);
  }
}
#endif

}  // namespace lepton
