// NEON with the dot products of ARMv8.2: sixteen lanes in four registers.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct Simd {
  static constexpr const char* kName = "neon";
  static constexpr int kSignedBias = 0;
  static constexpr bool kWords = false;
  static constexpr bool kPairProducts = false;
  static constexpr size_t kPanelTile = 1;
  static constexpr int kFewRows = 6;
  static constexpr int kFewWideRows = 4;
  static constexpr size_t kRowTile = 4;
  static constexpr size_t kFloatRows = 6;
  static constexpr size_t kQueryTile = 5;
  static constexpr int kAttendSums = 6;

  struct F {
    float32x4_t part[4];
  };
  struct I {
    int32x4_t part[4];
  };
  struct B {
    uint8x16_t part[4];
  };

  template <class Vector, class Op>
  [[gnu::always_inline]] static Vector map(Op op) {
    return {{op(0), op(1), op(2), op(3)}};
  }

  static F set1(float v) {
    return map<F>([&](int) { return vdupq_n_f32(v); });
  }
  static F load(const float* p) {
    return map<F>([&](int i) { return vld1q_f32(p + 4 * i); });
  }
  static void store(float* p, F v) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v.part[i]);
  }
  static F add(F a, F b) {
    return map<F>([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
  }
  static F sub(F a, F b) {
    return map<F>([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
  }
  static F mul(F a, F b) {
    return map<F>([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
  }
  static F div(F a, F b) {
    return map<F>([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
  }
  static F sqrt(F a) {
    return map<F>([&](int i) { return vsqrtq_f32(a.part[i]); });
  }
  static F fma(F a, F b, F c) {
    return map<F>([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
  }
  // NEON's own maximum is a NaN where either operand is; see simd_scalar.h.
  static float32x4_t larger(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
  }
  static F max(F a, F b) {
    return map<F>([&](int i) { return larger(a.part[i], b.part[i]); });
  }
  static F min(F a, F b) {
    return map<F>(
        [&](int i) { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
  }
  static F abs(F a) {
    return map<F>([&](int i) { return vabsq_f32(a.part[i]); });
  }
  static float sum_lanes(F v) {
    const float32x4_t four =
        vaddq_f32(vaddq_f32(v.part[0], v.part[2]), vaddq_f32(v.part[1], v.part[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  static float max_lanes(F v) {
    const float32x4_t four = larger(larger(v.part[0], v.part[2]), larger(v.part[1], v.part[3]));
    const float32x4_t two = larger(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(larger(two, vextq_f32(two, two, 1)), 0);
  }
  static F keep_at_least(F a, F b) {
    return map<F>([&](int i) {
      const uint32x4_t kept = vcgeq_f32(a.part[i], b.part[i]);
      return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.part[i]), kept));
    });
  }
  static uint32_t at_least(F a, F b) {
    static constexpr uint32_t kPlaces[4] = {1, 2, 4, 8};
    const uint32x4_t places = vld1q_u32(kPlaces);
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i)
      bits |= vaddvq_u32(vandq_u32(vcgeq_f32(a.part[i], b.part[i]), places)) << 4 * i;
    return bits;
  }

  static I set1(int32_t v) {
    return map<I>([&](int) { return vdupq_n_s32(v); });
  }
  static I add(I a, I b) {
    return map<I>([&](int i) { return vaddq_s32(a.part[i], b.part[i]); });
  }
  template <int N>
  static I shift_left(I v) {
    return map<I>([&](int i) { return vshlq_n_s32(v.part[i], N); });
  }
  static F bits_to_float(I v) {
    return map<F>([&](int i) { return vreinterpretq_f32_s32(v.part[i]); });
  }
  static F to_float(I v) {
    return map<F>([&](int i) { return vcvtq_f32_s32(v.part[i]); });
  }
  // The conversion saturates and makes a NaN zero, where INT32_MIN is wanted.
  static I round(F v) {
    const float32x4_t limit = vdupq_n_f32(0x1p31f);
    const int32x4_t least = vdupq_n_s32(INT32_MIN);
    return map<I>([&](int i) {
      return vbslq_s32(vcltq_f32(v.part[i], limit), vcvtnq_s32_f32(v.part[i]), least);
    });
  }
  static float largest_magnitude(F a, F b) {
    const I most = map<I>([&](int i) {
      return vmaxq_s32(vreinterpretq_s32_f32(vabsq_f32(a.part[i])),
                       vreinterpretq_s32_f32(vabsq_f32(b.part[i])));
    });
    const int32x4_t four =
        vmaxq_s32(vmaxq_s32(most.part[0], most.part[1]), vmaxq_s32(most.part[2], most.part[3]));
    const int32_t bits = vmaxvq_s32(four);
    float largest;
    std::memcpy(&largest, &bits, sizeof largest);
    return largest;
  }
  static F scale_by_power(F v, I n) {
    const int32x4_t bias = vdupq_n_s32(127);
    return map<F>([&](int i) {
      const int32x4_t bits = vshlq_n_s32(vaddq_s32(n.part[i], bias), 23);
      return vmulq_f32(v.part[i], vreinterpretq_f32_s32(bits));
    });
  }
  static int32_t sum(I v) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(v.part[0], v.part[1]), vaddq_s32(v.part[2], v.part[3])));
  }
  static void store_int8(int8_t* p, I v) {
    const auto words = [&](int i) {
      return vcombine_s16(vqmovn_s32(v.part[i]), vqmovn_s32(v.part[i + 1]));
    };
    vst1q_s8(p, vcombine_s8(vqmovn_s16(words(0)), vqmovn_s16(words(2))));
  }
  static void store_int16(int16_t* p, I v) {
    for (int i = 0; i < 4; ++i) vst1_s16(p + 4 * i, vqmovn_s32(v.part[i]));
  }

  static F load_f16(const uint16_t* p) {
    return map<F>([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
  }
  static F load_u8(const uint8_t* p) {
    const uint8x16_t v = vld1q_u8(p);
    const uint16x8_t lo = vmovl_u8(vget_low_u8(v)), hi = vmovl_u8(vget_high_u8(v));
    return {
        {vcvtq_f32_u32(vmovl_u16(vget_low_u16(lo))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(lo))),
         vcvtq_f32_u32(vmovl_u16(vget_low_u16(hi))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(hi)))}};
  }
  static F load_s8(const uint8_t* p) {
    const int8x16_t v = vreinterpretq_s8_u8(vld1q_u8(p));
    const int16x8_t lo = vmovl_s8(vget_low_s8(v)), hi = vmovl_s8(vget_high_s8(v));
    return {
        {vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
         vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))}};
  }
  static void load_bf16_pairs(const uint16_t* p, F& even, F& odd) {
    const uint32x4_t high = vdupq_n_u32(0xffff0000u);
    for (int i = 0; i < 4; ++i) {
      const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(p + 8 * i));
      even.part[i] = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
      odd.part[i] = vreinterpretq_f32_u32(vandq_u32(pairs, high));
    }
  }

  static F round_to_bf16(F v) {
    return map<F>([&](int i) {
      const uint32x4_t bits = vreinterpretq_u32_f32(v.part[i]);
      const uint32x4_t even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
      const uint32x4_t up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), even);
      const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
      const uint32x4_t rounded = vbslq_u32(vceqq_f32(v.part[i], v.part[i]), up, quiet);
      return vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(0xffff0000u)));
    });
  }

  static B load_bytes(const uint8_t* p) {
    return map<B>([&](int i) { return vld1q_u8(p + 16 * i); });
  }
  static B bit_and(B a, int mask) {
    const uint8x16_t m = vdupq_n_u8(static_cast<uint8_t>(mask));
    return map<B>([&](int i) { return vandq_u8(a.part[i], m); });
  }
  static B bit_xor(B a, int mask) {
    const uint8x16_t m = vdupq_n_u8(static_cast<uint8_t>(mask));
    return map<B>([&](int i) { return veorq_u8(a.part[i], m); });
  }
  static B bit_or(B a, B b) {
    return map<B>([&](int i) { return vorrq_u8(a.part[i], b.part[i]); });
  }
  template <int N>
  static B shift(B a) {
    if constexpr (N >= 0)
      return map<B>([&](int i) { return vshlq_n_u8(a.part[i], N); });
    else
      return map<B>([&](int i) { return vshrq_n_u8(a.part[i], -N); });
  }
  static B lookup(const int8_t table[16], B index) {
    const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
    return map<B>([&](int i) { return vqtbl1q_u8(t, index.part[i]); });
  }

  // Unsigned weights are small enough to be signed ones too.
  static I dot(I sum, B w, const int8_t* a) {
    int32_t four;
    std::memcpy(&four, a, sizeof four);
    const int8x16_t b = vreinterpretq_s8_s32(vdupq_n_s32(four));
    return map<I>([&](int i) { return vdotq_s32(sum.part[i], vreinterpretq_s8_u8(w.part[i]), b); });
  }
  static B signed_operand(B w) { return w; }
  static I dot_s8(I sum, B w, const int8_t* a) { return dot(sum, w, a); }
  static I dot_words(I sum, B w, const int16_t* a) {
    int32_t two;
    std::memcpy(&two, a, sizeof two);
    const int16x8_t b = vreinterpretq_s16_s32(vdupq_n_s32(two));
    return map<I>([&](int i) {
      const int16x8_t words = vreinterpretq_s16_u8(w.part[i]);
      const int32x4_t low = vmull_s16(vget_low_s16(words), vget_low_s16(b));
      return vaddq_s32(sum.part[i], vpaddq_s32(low, vmull_high_s16(words, b)));
    });
  }
};

}  // namespace
