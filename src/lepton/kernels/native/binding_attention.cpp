// A KV cache and attention alone in lepton.kernels._native.
#include "binding_attention.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "attention.h"
#include "check.h"
#include "dispatch.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {
namespace {

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IntTable = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

// A cache that knows how many blocks it has.
struct CheckedCache {
  CheckedCache(const std::string& type, size_t num_blocks, size_t num_kv_heads, size_t head_dim)
      : cache(parse_cache_type(type), num_kv_heads, head_dim), num_blocks(num_blocks) {
    check(num_blocks > 0 && num_kv_heads > 0 && head_dim > 0 && head_dim % 2 == 0,
          "a cache needs blocks, heads and an even head_dim");
    memory = AlignedBuffer(num_blocks * cache.bytes_per_block());
    cache.place(memory.data(), cache.bytes_per_block());
  }

  AlignedBuffer memory;
  KvCache cache;
  size_t num_blocks;
};

void store(const CheckedCache& target, Ints slots, FloatRows keys, FloatRows values) {
  const CacheView& view = target.cache.view();
  const size_t width = view.num_kv_heads * view.head_dim;
  check(keys.shape(0) == slots.size() && values.shape(0) == slots.size() &&
            keys.shape(1) == width && values.shape(1) == width,
        "keys and values must be [slots, heads · head_dim]");
  for (size_t i = 0; i < slots.size(); ++i) {
    const auto slot = static_cast<size_t>(slots.data()[i]);
    check(slot / kCacheBlockTokens < target.num_blocks, "slot out of range");
    for (size_t h = 0; h < view.num_kv_heads; ++h)
      target.cache.store(slot / kCacheBlockTokens, slot % kCacheBlockTokens, h,
                         keys.data() + i * width + h * view.head_dim,
                         values.data() + i * width + h * view.head_dim);
  }
}

Floats attend(ThreadPool& pool, const CheckedCache& cache, FloatRows queries, Ints positions,
              Ints row_starts, IntTable block_tables, float scale, size_t window, bool rounded,
              const std::string& isa) {
  const CacheView& view = cache.cache.view();
  const size_t rows = queries.shape(0), width = queries.shape(1);
  check(width > 0 && width % (view.num_kv_heads * view.head_dim) == 0,
        "queries must be [rows, heads · head_dim] with whole groups of heads");
  check(positions.size() == rows && row_starts.size() == block_tables.shape(0) + 1 &&
            row_starts.data()[0] == 0 &&
            static_cast<size_t>(row_starts.data()[row_starts.size() - 1]) == rows,
        "the arrays of a batch do not agree in size");
  BatchView batch{};
  batch.positions = positions.data();
  batch.rows = rows;
  batch.row_starts = row_starts.data();
  batch.sequences = block_tables.shape(0);
  batch.block_tables = block_tables.data();
  batch.table_width = block_tables.shape(1);
  for (size_t s = 0; s < batch.sequences; ++s) {
    check(batch.row_starts[s] < batch.row_starts[s + 1], "every sequence needs at least one row");
    const int32_t last = batch.positions[batch.row_starts[s + 1] - 1];
    check(last >= 0 && static_cast<size_t>(last) / kCacheBlockTokens < batch.table_width,
          "a block table is shorter than its sequence");
    for (size_t p = 0; p <= static_cast<size_t>(last); p += kCacheBlockTokens)
      check(batch.block(s, p) < cache.num_blocks, "block index out of range");
  }
  Rows input, output;
  input.reserve(rows, width);
  output.reserve(rows, width);
  for (size_t r = 0; r < rows; ++r) std::copy_n(queries.data() + r * width, width, input.row(r));
  const AttentionShape shape{width / view.head_dim, scale, window != 0 ? window : SIZE_MAX,
                             rounded};
  Attention(pool, kernel_table(isa)).run({shape, view, batch, input, output});
  float* data = new float[rows * width];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  for (size_t r = 0; r < rows; ++r) std::copy_n(output.row(r), width, data + r * width);
  return Floats(data, {rows, width}, owner);
}

}  // namespace

CacheType parse_cache_type(const std::string& name) {
  if (name == "bfloat16") return CacheType::kBFloat16;
  if (name == "int8") return CacheType::kInt8;
  throw std::invalid_argument("cache_type must be 'bfloat16' or 'int8', not '" + name + "'");
}

void bind_attention(nb::module_& m) {
  nb::class_<CheckedCache>(m, "KvCache", "Keys and values of one layer in blocks of 16 tokens.")
      .def(nb::init<const std::string&, size_t, size_t, size_t>(), "cache_type"_a, "num_blocks"_a,
           "num_kv_heads"_a, "head_dim"_a)
      .def("store", &store, "slots"_a, "keys"_a, "values"_a,
           "Puts keys and values [tokens, heads * head_dim] into slots: 16 * block + place.")
      .def_prop_ro("bytes_per_block",
                   [](const CheckedCache& cache) { return cache.cache.bytes_per_block(); });
  m.def("attend", &attend, "pool"_a, "cache"_a, "queries"_a, "positions"_a, "row_starts"_a,
        "block_tables"_a, nb::kw_only(), "scale"_a, "window"_a = 0, "rounded"_a = false,
        "isa"_a = "",
        "Causal attention as a step computes it, with a bfloat16 cache on request from queries and "
        "weights rounded to bfloat16: float32 [rows, heads * head_dim].");
}

}  // namespace lepton
