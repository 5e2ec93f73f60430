// A counter-based random number generator: Philox4x64-10 of "Parallel random numbers: as easy as 1,
// 2, 3" (Salmon et al., SC 2011, https://doi.org/10.1145/2063384.2063405).
#pragma once

#include <cstdint>

namespace lepton {

// The first of the four words for a key (key0, key1) and a counter (counter, 0, 0, 0).
inline uint64_t philox(uint64_t key0, uint64_t key1, uint64_t counter) {
  uint64_t word[4] = {counter, 0, 0, 0};
  for (int round = 0; round < 10; ++round) {
    const auto a = static_cast<unsigned __int128>(word[0]) * 0xD2E7470EE14C6C93u;
    const auto b = static_cast<unsigned __int128>(word[2]) * 0xCA5A826395121157u;
    word[0] = static_cast<uint64_t>(b >> 64) ^ word[1] ^ key0;
    word[2] = static_cast<uint64_t>(a >> 64) ^ word[3] ^ key1;
    word[1] = static_cast<uint64_t>(b);
    word[3] = static_cast<uint64_t>(a);
    key0 += 0x9E3779B97F4A7C15u;
    key1 += 0xBB67AE8584CAA73Bu;
  }
  return word[0];
}

// The random number in [0, 1), a multiple of 2^-53.
inline double uniform(uint64_t key0, uint64_t key1, uint64_t counter) {
  return static_cast<double>(philox(key0, key1, counter) >> 11) * 0x1p-53;
}

}  // namespace lepton
