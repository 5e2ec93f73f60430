// What this machine can do at most: bytes read from memory and multiply-adds, per second.
// Compiled by bench/roofline.py for the machine it runs on; prints one JSON object.
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

// Far more than any cache holds.
constexpr size_t kBytesPerThread = size_t{256} << 20;
constexpr int kPasses = 12;
constexpr int kAccumulators = 12;
constexpr int kSteps = 1 << 20;

// Runs body(thread) on all threads together, kPasses times; the seconds of the shortest pass.
double shortest_pass(int threads, const std::function<void(int)>& body) {
  std::barrier gate(threads);
  double best = 1e30;
  const auto work = [&](int thread) {
    for (int pass = 0; pass < kPasses; ++pass) {
      gate.arrive_and_wait();
      const auto start = Clock::now();
      body(thread);
      gate.arrive_and_wait();
      if (thread == 0)
        best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
  };
  std::vector<std::jthread> workers;
  for (int thread = 1; thread < threads; ++thread) workers.emplace_back(work, thread);
  work(0);
  workers.clear();
  return best;
}

using Words __attribute__((vector_size(64))) = uint64_t;

double read_bandwidth(int threads) {
  std::vector<Words*> buffers(static_cast<size_t>(threads));
  for (Words*& buffer : buffers) {
    buffer = static_cast<Words*>(std::aligned_alloc(size_t{2} << 20, kBytesPerThread));
    if (buffer == nullptr) std::abort();
    madvise(buffer, kBytesPerThread, MADV_HUGEPAGE);
    std::fill_n(reinterpret_cast<uint64_t*>(buffer), kBytesPerThread / sizeof(uint64_t), 1);
  }
  std::vector<uint64_t> sinks(static_cast<size_t>(threads));
  const double seconds = shortest_pass(threads, [&](int thread) {
    const Words* words = buffers[static_cast<size_t>(thread)];
    Words sums[4] = {};
    for (size_t i = 0; i < kBytesPerThread / sizeof(Words); i += 4)
      for (size_t j = 0; j < 4; ++j) sums[j] += words[i + j];
    const Words sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    sinks[static_cast<size_t>(thread)] = sum[0];
  });
  for (Words* buffer : buffers) std::free(buffer);
  // A wrong sum means that the compiler left reads out.
  for (const uint64_t sink : sinks)
    if (sink != kBytesPerThread / sizeof(Words)) std::abort();
  return static_cast<double>(kBytesPerThread) * threads / seconds;
}

// Hides from the compiler where a value comes from, at no cost: a product may then neither leave
// its loop nor be shared between chains.
#if defined(__ARM_NEON)
#define IN_REGISTER(v) asm volatile("" : "+w"(v))
#elif defined(__AVX512F__)
#define IN_REGISTER(v) asm volatile("" : "+v"(v))
#else
#define IN_REGISTER(v) asm volatile("" : "+x"(v))
#endif

#if defined(__x86_64__)

#if defined(__AVX512F__)
struct FloatAdds {
  using Vector = __m512;
  static constexpr const char* kName = "vfmadd (512 bits)";
  static constexpr int kMultiplyAdds = 16;
  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector step(Vector sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
};
#else
struct FloatAdds {
  using Vector = __m256;
  static constexpr const char* kName = "vfmadd (256 bits)";
  static constexpr int kMultiplyAdds = 8;
  static Vector zero() { return _mm256_setzero_ps(); }
  static Vector step(Vector sum, Vector a, Vector b) { return _mm256_fmadd_ps(a, b, sum); }
};
#endif

#if defined(__AVX512VNNI__)
struct IntegerAdds {
  using Vector = __m512i;
  static constexpr const char* kName = "vpdpbusd (512 bits)";
  static constexpr int kMultiplyAdds = 64;
  static Vector zero() { return _mm512_setzero_si512(); }
  static Vector step(Vector sum, Vector a, Vector b) { return _mm512_dpbusd_epi32(sum, a, b); }
};
#elif defined(__AVXVNNI__)
struct IntegerAdds {
  using Vector = __m256i;
  static constexpr const char* kName = "vpdpbusd (256 bits)";
  static constexpr int kMultiplyAdds = 32;
  static Vector zero() { return _mm256_setzero_si256(); }
  static Vector step(Vector sum, Vector a, Vector b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
};
#else
// Four products of 4-bit weights fit into 16-bit sums before these must be widened.
struct IntegerAdds {
  using Vector = __m256i;
  static constexpr const char* kName = "4 vpmaddubsw to each vpmaddwd (256 bits)";
  static constexpr int kMultiplyAdds = 4 * 32;
  static Vector zero() { return _mm256_setzero_si256(); }
  static Vector step(Vector sum, Vector a, Vector b) {
    Vector words = _mm256_maddubs_epi16(a, b);
    for (int i = 1; i < 4; ++i) {
      IN_REGISTER(a);
      words = _mm256_add_epi16(words, _mm256_maddubs_epi16(a, b));
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
  }
};
#endif

#elif defined(__ARM_FEATURE_DOTPROD)

struct FloatAdds {
  using Vector = float32x4_t;
  static constexpr const char* kName = "fmla (128 bits)";
  static constexpr int kMultiplyAdds = 4;
  static Vector zero() { return vdupq_n_f32(0); }
  static Vector step(Vector sum, Vector a, Vector b) { return vfmaq_f32(sum, a, b); }
};
struct IntegerAdds {
  using Vector = int32x4_t;
  static constexpr const char* kName = "sdot (128 bits)";
  static constexpr int kMultiplyAdds = 16;
  static Vector zero() { return vdupq_n_s32(0); }
  static Vector step(Vector sum, Vector a, Vector b) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
  }
};
#else
#error "The roofline is known for x86-64 and for ARM with the dot product extension."
#endif

// Independent chains of dependent multiply-adds, so that throughput binds and not latency.
template <class Adds>
double operations_per_second(int threads) {
  const double seconds = shortest_pass(threads, [](int) {
    auto a = Adds::zero(), b = Adds::zero();
    typename Adds::Vector sums[kAccumulators];
    for (auto& sum : sums) sum = Adds::zero();
    IN_REGISTER(b);
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kAccumulators; ++i) {
        IN_REGISTER(a);
        sums[i] = Adds::step(sums[i], a, b);
      }
    }
    for (auto& sum : sums) IN_REGISTER(sum);
  });
  return 2.0 * Adds::kMultiplyAdds * kAccumulators * kSteps * threads / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1;
  std::printf(
      "{\"threads\": %d, \"bytes_per_second\": %.0f,\n"
      " \"integer_instruction\": \"%s\", \"integer_operations_per_second\": %.0f,\n"
      " \"float_instruction\": \"%s\", \"float_operations_per_second\": %.0f}\n",
      threads, read_bandwidth(threads), IntegerAdds::kName,
      operations_per_second<IntegerAdds>(threads), FloatAdds::kName,
      operations_per_second<FloatAdds>(threads));
}
