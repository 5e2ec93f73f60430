// The Python face of the native core: lepton.kernels._native.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "binding_attention.h"
#include "binding_encoder.h"
#include "binding_sampling.h"
#include "dispatch.h"
#include "matrix.h"
#include "program.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {
namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IntTable = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float, nb::ndim<2>>;
using Blocks = nb::ndarray<nb::numpy, uint8_t, nb::ndim<2>>;

Floats new_floats(size_t rows, size_t columns) {
  float* data = new float[rows * columns];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  return Floats(data, {rows, columns}, owner);
}

// Memory for the logits of one step, kept from step to step: the system hands out pages slowly.
class LogitsMemory {
 public:
  // An array that gives its memory back when Python lets go of it.
  static Floats take(const std::shared_ptr<LogitsMemory>& memory, size_t rows, size_t columns) {
    auto loan = std::make_unique<Loan>(Loan{memory, std::exchange(memory->spare_, Rows{})});
    loan->buffer.reserve(1, rows * columns);
    float* data = loan->buffer.row(0);
    nb::capsule owner(loan.release(), [](void* p) noexcept {
      const std::unique_ptr<Loan> returned(static_cast<Loan*>(p));
      if (returned->buffer.bytes() <= kMostKept)
        returned->memory->spare_ = std::move(returned->buffer);
    });
    return Floats(data, {rows, columns}, owner);
  }

 private:
  static constexpr size_t kMostKept = size_t{64} << 20;

  struct Loan {
    std::shared_ptr<LogitsMemory> memory;
    Rows buffer;
  };
  Rows spare_;  // guarded by the interpreter lock
};

// A program as Python holds it.
struct BoundProgram : Program {
  using Program::Program;
  std::shared_ptr<LogitsMemory> logits_memory = std::make_shared<LogitsMemory>();
};

std::shared_ptr<Matrix> make_matrix(int type, size_t rows, size_t columns, bool split) {
  if (rows == 0 || columns == 0 || rows > (size_t{1} << 31) || columns > (size_t{1} << 31))
    throw std::invalid_argument("matrix dimensions must be between 1 and 2^31");
  return std::make_shared<Matrix>(static_cast<TensorType>(type), rows, columns, split);
}

void pack_rows(Matrix& matrix, size_t first, int source_type, Bytes source, ThreadPool& pool,
               const std::string& isa) {
  const KernelTable& kernels = kernel_table(isa);
  const nb::gil_scoped_release release;
  matrix.pack_rows(first, static_cast<TensorType>(source_type), source.data(), source.size(), pool,
                   kernels);
}

std::shared_ptr<Matrix> pack_matrix(int type, size_t rows, size_t columns, Bytes source,
                                    ThreadPool& pool, bool split) {
  std::shared_ptr<Matrix> matrix = make_matrix(type, rows, columns, split);
  if (source.size() != rows * row_bytes(matrix->type(), columns))
    throw std::invalid_argument("the buffer does not have the size of the matrix");
  pack_rows(*matrix, 0, type, source, pool, "");
  return matrix;
}

Floats unpack(const Matrix& matrix) {
  Floats out = new_floats(matrix.rows(), matrix.columns());
  for (size_t r = 0; r < matrix.rows(); ++r)
    matrix.unpack_row(r, out.data() + r * matrix.columns());
  return out;
}

Planes parse_precision(const std::string& name) {
  if (name == "fast") return Planes::kAdaptive;
  if (name == "exact") return Planes::kTwo;
  throw std::invalid_argument("precision must be 'exact' or 'fast', not '" + name + "'");
}

// inputs · weightsᵀ as a step computes it: float inputs [rows, columns] to outputs [rows, outputs].
Floats multiply_arrays(const Matrix& matrix, FloatRows inputs, const std::string& precision,
                       const std::string& isa) {
  if (inputs.shape(1) != matrix.columns())
    throw std::invalid_argument("the inputs do not have as many columns as the matrix");
  const std::vector<float> outputs = multiply_alone(matrix, inputs.data(), inputs.shape(0),
                                                    parse_precision(precision), kernel_table(isa));
  Floats out = new_floats(inputs.shape(0), matrix.rows());
  std::copy(outputs.begin(), outputs.end(), out.data());
  return out;
}

Floats forward(BoundProgram& program, Ints token_ids, Ints positions, Ints row_starts,
               IntTable block_tables, Ints logit_rows, std::optional<Ints> num_best) {
  if (row_starts.size() == 0 || positions.size() != token_ids.size() ||
      block_tables.shape(0) != row_starts.size() - 1 ||
      (num_best && num_best->size() != logit_rows.size()))
    throw std::invalid_argument("the arrays of a batch do not agree in size");
  BatchView batch{};
  batch.token_ids = token_ids.data();
  batch.positions = positions.data();
  batch.rows = token_ids.size();
  batch.row_starts = row_starts.data();
  batch.sequences = row_starts.size() - 1;
  batch.block_tables = block_tables.data();
  batch.table_width = block_tables.shape(1);
  batch.logit_rows = logit_rows.data();
  batch.num_logits = logit_rows.size();
  batch.num_best = num_best ? num_best->data() : nullptr;
  Floats logits = LogitsMemory::take(program.logits_memory, batch.num_logits, program.vocab_size());
  const nb::gil_scoped_release release;
  program.forward(batch, logits.data());
  return logits;
}

}  // namespace
}  // namespace lepton

NB_MODULE(_native, m) {
  using namespace lepton;
  m.def("supported_isas", &supported_isas, "Instruction sets this machine can run, best first.");
  m.def(
      "selected_isa", [](const std::string& name) { return kernel_table(name).name; },
      "name"_a = "", "The instruction set used for `name` ('' for LEPTON_ISA or the best).");

  nb::class_<ThreadPool>(m, "ThreadPool", "A persistent pool of worker threads.")
      .def(nb::init<int>(), "threads"_a)
      .def_prop_ro("threads", &ThreadPool::threads);

  nb::class_<Matrix>(m, "Matrix", "A weight matrix packed into panels of 16 outputs.")
      .def(nb::new_(&make_matrix), "tensor_type"_a, "rows"_a, "columns"_a, nb::kw_only(),
           "split"_a = false)
      .def(nb::new_(&pack_matrix), "tensor_type"_a, "rows"_a, "columns"_a, "source"_a, "pool"_a,
           nb::kw_only(), "split"_a = false)
      .def("pack_rows", &pack_rows, "first"_a, "source_type"_a, "source"_a, "pool"_a, "isa"_a = "",
           "Packs whole panels from row `first` on, quantizing float weights where types differ.")
      .def("unpack", &unpack, "The weights as float32 [rows, columns].")
      .def_prop_ro("rows", &Matrix::rows)
      .def_prop_ro("columns", &Matrix::columns)
      .def_prop_ro("nbytes", &Matrix::bytes);

  m.def(
      "packed_bytes",
      [](int type, size_t rows, size_t columns) {
        return (rows + kPanelRows - 1) / kPanelRows *
               panel_bytes(static_cast<TensorType>(type), columns);
      },
      "tensor_type"_a, "rows"_a, "columns"_a, "Memory that a matrix takes in panels.");

  m.def("multiply", &multiply_arrays, "matrix"_a, "inputs"_a, "precision"_a = "exact", "isa"_a = "",
        "inputs [rows, columns] times the transposed matrix: float32 [rows, outputs].");

  nb::class_<NormWeights>(m, "Norm").def(nb::init<std::vector<float>, float>(), "weight"_a,
                                         "epsilon"_a);
  nb::class_<LinearWeights>(m, "Linear")
      .def(
          "__init__",
          [](LinearWeights* self, std::shared_ptr<Matrix> matrix, std::vector<float> bias) {
            new (self) LinearWeights{std::move(matrix), std::move(bias)};
          },
          "matrix"_a, "bias"_a);

  nb::class_<BoundProgram>(m, "Program", "A model's stages and its paged KV cache.")
      .def(nb::new_([](std::shared_ptr<ThreadPool> pool, size_t hidden, size_t num_blocks,
                       const std::string& precision, const std::string& cache_type,
                       const std::string& isa) {
             return std::make_shared<BoundProgram>(std::move(pool), hidden, num_blocks,
                                                   parse_precision(precision),
                                                   parse_cache_type(cache_type), isa);
           }),
           "pool"_a, "hidden"_a, "num_blocks"_a, "precision"_a, "cache_type"_a = "bfloat16",
           "isa"_a = "")
      .def(
          "set_embedding",
          [](BoundProgram& p, std::shared_ptr<Matrix> matrix, float scale) {
            p.set_embedding(std::move(matrix), scale);
          },
          "matrix"_a, "scale"_a)
      .def(
          "add_rope",
          [](BoundProgram& p, std::vector<float> frequencies, bool interleaved, float magnitude) {
            return p.add_rope({std::move(frequencies), interleaved, magnitude});
          },
          "inverse_frequencies"_a, "interleaved"_a, "magnitude"_a)
      .def(
          "add_attention",
          [](BoundProgram& p, const NormWeights& norm, const LinearWeights& query,
             const LinearWeights& key, const LinearWeights& value, const LinearWeights& output,
             size_t num_heads, size_t num_kv_heads, size_t head_dim, float scale, size_t rope,
             size_t window, std::optional<NormWeights> query_norm,
             std::optional<NormWeights> key_norm, std::optional<NormWeights> post_norm) {
            p.add_attention({norm, query, key, value, output, num_heads, num_kv_heads, head_dim,
                             scale, rope, window, std::move(query_norm), std::move(key_norm),
                             std::move(post_norm)});
          },
          nb::kw_only(), "norm"_a, "query"_a, "key"_a, "value"_a, "output"_a, "num_heads"_a,
          "num_kv_heads"_a, "head_dim"_a, "scale"_a, "rope"_a, "window"_a, "query_norm"_a.none(),
          "key_norm"_a.none(), "post_norm"_a.none())
      .def(
          "add_gated_mlp",
          [](BoundProgram& p, const NormWeights& norm, const LinearWeights& gate,
             const LinearWeights& up, const LinearWeights& down, bool gelu,
             std::optional<NormWeights> post_norm) {
            p.add_gated_mlp({norm, gate, up, down, gelu, std::move(post_norm)});
          },
          nb::kw_only(), "norm"_a, "gate"_a, "up"_a, "down"_a, "gelu"_a, "post_norm"_a.none())
      .def("set_head", &BoundProgram::set_head, "norm"_a, "output"_a)
      .def("forward", &forward, "token_ids"_a.noconvert(), "positions"_a.noconvert(),
           "row_starts"_a.noconvert(), "block_tables"_a.noconvert(), "logit_rows"_a.noconvert(),
           "num_best"_a.noconvert() = nb::none(),
           "Runs one ragged step; returns logits [wanted, vocabulary].")
      .def_prop_ro("vocab_size", &BoundProgram::vocab_size)
      .def_prop_ro("num_blocks", &BoundProgram::num_blocks)
      .def_prop_ro("bytes_per_block", &BoundProgram::bytes_per_block)
      .def_prop_ro(
          "cache",
          [](nb::object self) {
            const auto& program = nb::cast<const BoundProgram&>(self);
            if (program.vocab_size() == 0)
              throw std::logic_error("the program has no head, and so no cache yet");
            return Blocks(program.cache(), {program.num_blocks(), program.bytes_per_block()}, self);
          },
          "The cache uint8 [blocks, bytes of one], not a copy; not to be used during a step.")
      .def_prop_ro("isa", [](const BoundProgram& p) { return std::string(p.isa()); });

  bind_attention(m);
  bind_encoder(m);
  bind_sampling(m);
}
