#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace lepton {

extern const KernelTable kernels_scalar;
#if defined(__x86_64__)
extern const KernelTable kernels_avx2;
extern const KernelTable kernels_avxvnni;
extern const KernelTable kernels_avx512;
extern const AttendKernel attend_avx512bf16;
#elif defined(__aarch64__)
extern const KernelTable kernels_neon;
#endif

namespace {

struct Candidate {
  const KernelTable* table;
  bool runs_here;
};

#if defined(__x86_64__)
const KernelTable& kernels_avx512bf16() {
  static const KernelTable table = [] {
    KernelTable t = kernels_avx512;
    t.name = "avx512bf16";
    t.attend = attend_avx512bf16;
    return t;
  }();
  return table;
}
#endif

// The compiler's run-time checks read CPUID and ask XGETBV whether the system saves the registers.
std::vector<Candidate> candidates() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
#ifdef LEPTON_EMULATE_ISAS
  const bool avxvnni = avx2, avx512 = avx2, avx512bf16 = avx2;
#else
  const bool avxvnni = avx2 && __builtin_cpu_supports("avxvnni");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  const bool avx512bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return {{&kernels_avx512bf16(), avx512bf16},
          {&kernels_avx512, avx512},
          {&kernels_avxvnni, avxvnni},
          {&kernels_avx2, avx2},
          {&kernels_scalar, true}};
#elif defined(__aarch64__)
  return {{&kernels_neon, (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0}, {&kernels_scalar, true}};
#else
  return {{&kernels_scalar, true}};
#endif
}

}  // namespace

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Candidate& c : candidates())
    if (c.runs_here) names.emplace_back(c.table->name);
  return names;
}

const KernelTable& kernel_table(const std::string& requested) {
  std::string name = requested;
  if (const char* forced = std::getenv("LEPTON_ISA"); name.empty() && forced != nullptr)
    name = forced;
  std::string known;
  for (const Candidate& c : candidates()) {
    if (c.runs_here && (name.empty() || name == c.table->name)) return *c.table;
    if (c.runs_here) known += std::string(known.empty() ? "" : ", ") + c.table->name;
  }
  throw std::invalid_argument(
      "instruction set '" + name +
      "' is unknown or cannot run on this machine (LEPTON_ISA may be one of: " + known + ")");
}

}  // namespace lepton
