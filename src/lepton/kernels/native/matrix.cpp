#include "matrix.h"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "gguf_blocks.h"
#include "half.h"
#include "thread_pool.h"

namespace lepton {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Where the code of (output, input) lies in a block. Both packing and unpacking go through here.
struct CodePlaces {
  template <Codes C>
  static void put(uint8_t* block, int output, int input, uint8_t code) {
    const int quad = input / 4;
    const int byte = output * 4 + input % 4;
    if constexpr (C == Codes::kS8) {
      block[quad * 64 + byte] = code;
    } else {
      if constexpr (kBase<C> == 4)
        block[(quad % 4) * 64 + byte] |= static_cast<uint8_t>((code & 15) << (quad / 4 * 4));
      else
        block[(quad / 4) * 64 + byte] |= static_cast<uint8_t>((code & 3) << (quad % 4 * 2));
      uint8_t* extra = block + (kBase<C> == 4 ? 256 : 128);
      const int high = code >> kBase<C>;
      if constexpr (C == Codes::kU5 || C == Codes::kU3)
        extra[byte] |= static_cast<uint8_t>((high & 1) << quad);
      if constexpr (C == Codes::kU6)
        extra[(quad / 4) * 64 + byte] |= static_cast<uint8_t>((high & 3) << (quad % 4 * 2));
    }
  }

  template <Codes C>
  static uint8_t get(const uint8_t* block, int output, int input) {
    const int quad = input / 4;
    const int byte = output * 4 + input % 4;
    if constexpr (C == Codes::kS8) {
      return block[quad * 64 + byte];
    } else {
      int code = kBase<C> == 4 ? block[(quad % 4) * 64 + byte] >> (quad / 4 * 4) & 15
                               : block[(quad / 4) * 64 + byte] >> (quad % 4 * 2) & 3;
      const uint8_t* extra = block + (kBase<C> == 4 ? 256 : 128);
      if constexpr (C == Codes::kU5 || C == Codes::kU3)
        code |= (extra[byte] >> quad & 1) << kBase<C>;
      if constexpr (C == Codes::kU6)
        code |= (extra[(quad / 4) * 64 + byte] >> (quad % 4 * 2) & 3) << kBase<C>;
      return static_cast<uint8_t>(code);
    }
  }

 private:
  template <Codes C>
  static constexpr int kBase = C == Codes::kU2 || C == Codes::kU3 ? 2 : 4;
};

void put_half(uint8_t* p, int index, uint16_t value) { std::memcpy(p + 2 * index, &value, 2); }

float get_half(const uint8_t* p, int index) {
  uint16_t value;
  std::memcpy(&value, p + 2 * index, 2);
  return half_to_float(value);
}

template <TensorType T>
void pack_row(uint8_t* panel, int output, const uint8_t* source, size_t columns) {
  using Layout = LayoutOf<T>;
  const size_t blocks = columns / kBlockColumns;
  for (size_t b = 0; b < blocks; ++b) {
    const size_t in_super = b % Layout::kBlocksPerSuper;
    uint8_t* super = panel + b / Layout::kBlocksPerSuper * Layout::kSuperBytes;
    uint8_t* block = super + Layout::kSuperHeader + in_super * Layout::kBlockBytes;
    const BlockValues values = read_block<T>(source, b);
    for (int i = 0; i < kBlockColumns; ++i)
      CodePlaces::put<Layout::kCodes>(block, output, i, values.codes[i]);
    uint8_t* scales = block + Layout::kCodeBytes;
    if constexpr (Layout::kHasSuper) {
      put_half(super, output, values.scale);
      if constexpr (Layout::kHasMinimum) put_half(super + 32, output, values.minimum);
      for (int g = 0; g < Layout::kGroups; ++g) {
        scales[g * 16 + output] = values.scale_multiplier[g];
        if constexpr (Layout::kHasMinimum)
          scales[(Layout::kGroups + g) * 16 + output] = values.minimum_multiplier[g];
      }
    } else {
      put_half(scales, output, values.scale);
      if constexpr (Layout::kHasMinimum) put_half(scales + 32, output, values.minimum);
    }
  }
}

template <TensorType T>
void unpack_row_as(const uint8_t* panel, int output, size_t columns, float* out) {
  using Layout = LayoutOf<T>;
  const size_t blocks = columns / kBlockColumns;
  for (size_t b = 0; b < blocks; ++b) {
    const size_t in_super = b % Layout::kBlocksPerSuper;
    const uint8_t* super = panel + b / Layout::kBlocksPerSuper * Layout::kSuperBytes;
    const uint8_t* block = super + Layout::kSuperHeader + in_super * Layout::kBlockBytes;
    const uint8_t* scales = block + Layout::kCodeBytes;
    for (int i = 0; i < kBlockColumns; ++i) {
      const int group = i * Layout::kGroups / kBlockColumns;
      float scale, minimum = 0.0f;
      if constexpr (Layout::kHasSuper) {
        const uint8_t multiplier = scales[group * 16 + output];
        scale = get_half(super, output) * static_cast<float>(Layout::kSignedMultipliers
                                                                 ? static_cast<int8_t>(multiplier)
                                                                 : static_cast<int>(multiplier));
        if constexpr (Layout::kHasMinimum)
          minimum = -(get_half(super + 32, output) *
                      static_cast<float>(scales[(Layout::kGroups + group) * 16 + output]));
      } else {
        scale = get_half(scales, output);
        if constexpr (Layout::kHasMinimum) minimum = get_half(scales + 32, output);
      }
      const uint8_t code = CodePlaces::get<Layout::kCodes>(block, output, i);
      int value;
      if constexpr (Layout::kCodes == Codes::kTable4)
        value = kIq4Values[code];
      else if constexpr (Layout::kCodes == Codes::kS8)
        value = static_cast<int8_t>(code);
      else
        value = code - Layout::kOffset;
      const float product = scale * static_cast<float>(value);
      out[b * kBlockColumns + static_cast<size_t>(i)] =
          Layout::kHasMinimum ? product + minimum : product;
    }
  }
}

size_t element_bytes(TensorType type) { return type == TensorType::kF32 ? 4 : 2; }

// Float panels hold one value per output for every input; bf16 interleaves pairs of inputs.
size_t float_index(TensorType type, size_t output, size_t input) {
  if (type == TensorType::kBF16) return input / 2 * 32 + output * 2 + input % 2;
  return input * kPanelRows + output;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const size_t slack = bytes >= kHugePage ? kHugePage : 0;
  if (bytes > SIZE_MAX - slack) throw std::bad_alloc();
  void* base = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<uint8_t*>(base);
  if (slack != 0) {
    start += (kHugePage - reinterpret_cast<uintptr_t>(base) % kHugePage) % kHugePage;
    madvise(start, bytes, MADV_HUGEPAGE);
  }
  data_ = {start, Unmap{base, bytes + slack}};
}

void AlignedBuffer::Unmap::operator()(uint8_t*) const { munmap(base, length); }

size_t Matrix::source_bytes(TensorType type, size_t rows, size_t columns) {
  if (columns != 0 && rows > (size_t{1} << 48) / columns)
    throw std::invalid_argument("the matrix is too large");
  switch (type) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      return rows * columns * element_bytes(type);
    default:
      break;
  }
  size_t bytes = 0;
  const bool known = visit_quantized(type, [&]<TensorType T>() {
    const size_t unit = static_cast<size_t>(LayoutOf<T>::kBlocksPerSuper) * kBlockColumns;
    if (columns % unit != 0)
      throw std::invalid_argument("columns (" + std::to_string(columns) +
                                  ") must be a multiple of " + std::to_string(unit));
    bytes = rows * (columns / unit) * kSourceBlockBytes<T>;
  });
  if (!known) throw std::invalid_argument("unknown tensor type");
  return bytes;
}

Matrix::Matrix(TensorType type, size_t rows, size_t columns, const uint8_t* source,
               ThreadPool& pool)
    : type_(type), rows_(rows), columns_(columns) {
  const size_t row_bytes = source_bytes(type, 1, columns);
  if (quantized()) {
    visit_quantized(type,
                    [&]<TensorType T>() { panel_bytes_ = LayoutOf<T>::panel_bytes(columns); });
  } else {
    panel_bytes_ = (columns + 1) / 2 * 2 * kPanelRows * element_bytes(type);
  }
  data_ = AlignedBuffer(panels() * panel_bytes_);
  pool.parallel_for(panels(), 4, [&](size_t begin, size_t end, int) {
    for (size_t p = begin; p < end; ++p) pack_panel(p, source, row_bytes);
  });
}

void Matrix::pack_panel(size_t panel_index, const uint8_t* source, size_t row_bytes) {
  uint8_t* panel = data_.data() + panel_index * panel_bytes_;
  for (size_t output = 0; output < kPanelRows; ++output) {
    const size_t row = panel_index * kPanelRows + output;
    if (row >= rows_) break;
    const uint8_t* row_source = source + row * row_bytes;
    if (quantized()) {
      visit_quantized(type_, [&]<TensorType T>() {
        pack_row<T>(panel, static_cast<int>(output), row_source, columns_);
      });
      continue;
    }
    const size_t width = element_bytes(type_);
    for (size_t k = 0; k < columns_; ++k)
      std::memcpy(panel + float_index(type_, output, k) * width, row_source + k * width, width);
  }
}

void Matrix::unpack_row(size_t row, float* out) const {
  const uint8_t* source = panel(row / kPanelRows);
  const size_t output = row % kPanelRows;
  if (quantized()) {
    visit_quantized(type_, [&]<TensorType T>() {
      unpack_row_as<T>(source, static_cast<int>(output), columns_, out);
    });
    return;
  }
  for (size_t k = 0; k < columns_; ++k) {
    const size_t index = float_index(type_, output, k);
    if (type_ == TensorType::kF32) {
      std::memcpy(out + k, source + index * 4, 4);
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, source + index * 2, 2);
    out[k] = type_ == TensorType::kF16 ? half_to_float(bits) : bfloat16_to_float(bits);
  }
}

}  // namespace lepton
