#include "dispatch.h"
#include "encoder_kernels.h"

namespace lepton {

extern const EncoderKernels encoder_scalar;
#if defined(__x86_64__)
extern const EncoderKernels encoder_avx2;
extern const EncoderKernels encoder_avxvnni;
extern const EncoderKernels encoder_avx512;
extern const EncoderKernels encoder_avx512bf16;
#elif defined(__aarch64__)
extern const EncoderKernels encoder_neon;
#endif

size_t attention_scratch_bytes(size_t tokens, size_t head_dim) {
  const size_t padded = (tokens + 15) / 16 * 16, dims = (head_dim + 15) / 16 * 16;
  // Keys, values, and scores and weights of the most rows that a tile has.
  constexpr size_t kRows = 16;
  return 2 * padded * dims * sizeof(float) + 2 * kRows * padded * sizeof(float) + 64;
}

bool has_half_products(const std::string& isa) {
  return std::string(kernel_table(isa).name) == "avx512bf16";
}

const EncoderKernels& encoder_kernels(const std::string& isa, bool half) {
  const std::string name = kernel_table(isa).name;
#if defined(__x86_64__)
  if (half && name == "avx512bf16") return encoder_avx512bf16;
  if (name == "avx512" || name == "avx512bf16") return encoder_avx512;
  if (name == "avxvnni") return encoder_avxvnni;
  if (name == "avx2") return encoder_avx2;
#elif defined(__aarch64__)
  if (name == "neon") return encoder_neon;
#endif
  static_cast<void>(half);
  return encoder_scalar;
}

}  // namespace lepton
