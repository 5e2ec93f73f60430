#include "binding_encoder.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "encoder.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {
namespace {

using FloatRow = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

std::vector<float> copy(const std::optional<FloatRow>& array) {
  if (!array) return {};
  return {array->data(), array->data() + array->size()};
}

EncoderTable table(const std::optional<FloatRows>& array) {
  if (!array) return {};
  return {{array->data(), array->data() + array->size()}};
}

template <class Choice>
Choice parse(const std::string& name, std::initializer_list<std::pair<const char*, Choice>> known) {
  for (const auto& [text, choice] : known)
    if (name == text) return choice;
  throw std::invalid_argument("unknown choice '" + name + "'");
}

DenseType parse_type(const std::string& name) {
  return parse<DenseType>(name, {{"float32", DenseType::kFloat32},
                                 {"bfloat16", DenseType::kBFloat16},
                                 {"int8", DenseType::kInt8},
                                 {"int16", DenseType::kInt16}});
}

Activation parse_activation(const std::string& name) {
  return parse<Activation>(name, {{"gelu", Activation::kGelu},
                                  {"gelu_tanh", Activation::kGeluTanh},
                                  {"relu", Activation::kRelu},
                                  {"silu", Activation::kSilu}});
}

TextPooling parse_pooling(const std::optional<std::string>& name) {
  if (!name) return TextPooling::kNone;
  return parse<TextPooling>(*name, {{"mean", TextPooling::kMean},
                                    {"cls", TextPooling::kFirst},
                                    {"last", TextPooling::kLast},
                                    {"weighted", TextPooling::kWeighted},
                                    {"max", TextPooling::kLargest}});
}

Floats forward(EncoderProgram& program, Ints token_ids, Ints row_starts,
               const std::optional<std::string>& pooling, std::optional<Ints> kinds,
               std::optional<Ints> pool_starts) {
  if (row_starts.size() == 0 || (kinds && kinds->size() != token_ids.size()) ||
      (pool_starts && pool_starts->size() + 1 != row_starts.size()))
    throw std::invalid_argument("the arrays of a batch do not agree in size");
  const TextBatch batch{token_ids.data(),
                        token_ids.size(),
                        row_starts.data(),
                        row_starts.size() - 1,
                        kinds ? kinds->data() : nullptr,
                        pool_starts ? pool_starts->data() : nullptr};
  const TextPooling kind = parse_pooling(pooling);
  const size_t rows = kind == TextPooling::kNone ? batch.rows : batch.texts;
  float* data = new float[rows * program.hidden()];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  Floats out(data, {rows, program.hidden()}, owner);
  const nb::gil_scoped_release release;
  program.forward(batch, kind, data);
  return out;
}

}  // namespace

void bind_encoder(nb::module_& m) {
  m.def("has_bfloat16_products", &has_half_products, "isa"_a = "",
        "Whether an instruction set (empty: the one in use) multiplies bfloat16 on this machine.");

  nb::class_<DenseMatrix>(m, "DenseMatrix", "An encoder's weights, packed for its products.")
      .def(nb::new_([](const std::string& type, size_t rows, size_t columns) {
             return std::make_shared<DenseMatrix>(parse_type(type), rows, columns);
           }),
           "dtype"_a, "rows"_a, "columns"_a)
      .def(
          "pack_rows",
          [](DenseMatrix& matrix, size_t first, FloatRows rows) {
            if (rows.shape(1) != matrix.columns())
              throw std::invalid_argument("the rows do not have the matrix's columns");
            const nb::gil_scoped_release release;
            matrix.pack_rows(first, rows.data(), rows.shape(0));
          },
          "first"_a, "rows"_a,
          "Rounds and packs float32 rows [count, columns]; ValueError when one is not finite.")
      .def_prop_ro("nbytes", &DenseMatrix::bytes);

  nb::class_<VectorTable>(m, "VectorTable", "Vectors to look up, in float32 or bfloat16.")
      .def(nb::new_([](const std::string& type, size_t rows, size_t columns) {
             return std::make_shared<VectorTable>(parse_type(type), rows, columns);
           }),
           "dtype"_a, "rows"_a, "columns"_a)
      .def(
          "pack_rows",
          [](VectorTable& vectors, size_t first, FloatRows rows) {
            if (rows.shape(1) != vectors.columns())
              throw std::invalid_argument("the rows do not have the table's columns");
            vectors.pack_rows(first, rows.data(), rows.shape(0));
          },
          "first"_a, "rows"_a,
          "Rounds and keeps float32 rows [count, columns]; ValueError when one is not finite.")
      .def_prop_ro("nbytes", &VectorTable::bytes);

  nb::class_<EncoderNorm>(m, "EncoderNorm")
      .def(
          "__init__",
          [](EncoderNorm* self, FloatRow weight, std::optional<FloatRow> bias, float epsilon) {
            new (self) EncoderNorm{copy(weight), copy(bias), epsilon};
          },
          "weight"_a, "bias"_a.none(), "epsilon"_a,
          "A layer norm, or a root mean square norm when there is no bias.");

  nb::class_<DenseLinear>(m, "DenseLinear")
      .def(
          "__init__",
          [](DenseLinear* self, std::shared_ptr<DenseMatrix> matrix, std::optional<FloatRow> bias) {
            new (self) DenseLinear{std::move(matrix), copy(bias)};
          },
          "matrix"_a, "bias"_a.none());

  nb::class_<EncoderRope>(m, "EncoderRope")
      .def(nb::init<std::vector<float>, bool, float>(), "inverse_frequencies"_a, "interleaved"_a,
           "magnitude"_a);

  nb::class_<EncoderProgram>(m, "EncoderProgram", "An encoder's stages.")
      .def(nb::new_([](std::shared_ptr<ThreadPool> pool, size_t hidden, const std::string& type,
                       const std::string& isa) {
             return std::make_shared<EncoderProgram>(std::move(pool), hidden, parse_type(type),
                                                     isa);
           }),
           "pool"_a, "hidden"_a, "dtype"_a, "isa"_a = "")
      .def(
          "set_embedding",
          [](EncoderProgram& p, std::shared_ptr<VectorTable> vectors,
             std::shared_ptr<Matrix> matrix, float scale, std::optional<FloatRows> positions,
             size_t position_offset, std::optional<FloatRows> kinds,
             std::optional<EncoderNorm> norm) {
            p.set_embedding({std::move(vectors), std::move(matrix), scale, table(positions),
                             position_offset, table(kinds), std::move(norm)});
          },
          nb::kw_only(), "table"_a.none(), "matrix"_a.none(), "scale"_a, "positions"_a.none(),
          "position_offset"_a, "kinds"_a.none(), "norm"_a.none())
      .def(
          "add_attention",
          [](EncoderProgram& p, std::optional<EncoderNorm> norm, const DenseLinear& joined,
             const DenseLinear& output, size_t num_heads, size_t num_kv_heads, size_t head_dim,
             float scale, bool causal, size_t window, std::optional<EncoderRope> rope,
             std::optional<EncoderNorm> query_norm, std::optional<EncoderNorm> key_norm,
             std::optional<EncoderNorm> post_norm, std::optional<EncoderNorm> residual_norm) {
            p.add_attention({std::move(norm), joined, output, num_heads, num_kv_heads, head_dim,
                             scale, causal, window, std::move(rope), std::move(query_norm),
                             std::move(key_norm), std::move(post_norm), std::move(residual_norm)});
          },
          nb::kw_only(), "norm"_a.none(), "joined"_a, "output"_a, "num_heads"_a, "num_kv_heads"_a,
          "head_dim"_a, "scale"_a, "causal"_a, "window"_a, "rope"_a.none(), "query_norm"_a.none(),
          "key_norm"_a.none(), "post_norm"_a.none(), "residual_norm"_a.none())
      .def(
          "add_mlp",
          [](EncoderProgram& p, std::optional<EncoderNorm> norm, const DenseLinear& up,
             const DenseLinear& down, const std::string& activation, bool gated,
             std::optional<EncoderNorm> post_norm, std::optional<EncoderNorm> residual_norm) {
            p.add_mlp({std::move(norm), up, down, parse_activation(activation), gated,
                       std::move(post_norm), std::move(residual_norm)});
          },
          nb::kw_only(), "norm"_a.none(), "up"_a, "down"_a, "activation"_a, "gated"_a,
          "post_norm"_a.none(), "residual_norm"_a.none())
      .def("set_final_norm", &EncoderProgram::set_final_norm, "norm"_a)
      .def("forward", &forward, "token_ids"_a.noconvert(), "row_starts"_a.noconvert(),
           "pooling"_a.none(), "kinds"_a.noconvert() = nb::none(),
           "pool_starts"_a.noconvert() = nb::none(),
           "States [rows, hidden] of whole texts, or pooled [texts, hidden].")
      .def_prop_ro("isa", [](const EncoderProgram& p) { return std::string(p.isa()); });
}

}  // namespace lepton
