// The field `label` of records: the class of a text, by name or by number, or a number that is to be said.
#pragma once

#include <map>
#include <set>
#include <string>

#include "text/dataset.h"
#include "text/json_records.h"

namespace thimble {

class RecordFields;

class LabelField {
 public:
  explicit LabelField(const Labels& labels);

  // Example::label. Of classes: a name that there is, else a whole number (true and false are 1 and 0 where classes
  // have no names), also as text, as tables have it. Refuses what names no class.
  Result<float> read(RecordFields& record) const;

 private:
  Result<float> number(RecordFields& record) const;

  Labels::Kind kind_;
  int64_t count_;
  bool named_ = false;  // not only LABEL_0, LABEL_1, ...
  std::map<std::string, int64_t, std::less<>> ids_;
};

// Collects the labels of records.
class LabelScan {
 public:
  explicit LabelScan(const DatasetOptions& options);
  ~LabelScan();
  // Records that cannot be read, or have no label, are passed over: the data set counts them as bad.
  Result<void> add(const InputFile& file, const JsonRecord& record);
  // Refuses labels of which some are numbers and others names, and data with fewer than two.
  Result<Labels> finish(const std::string& files) const;

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
  DatasetOptions options_;
  std::set<std::string, std::less<>> names_;
  int64_t largest_ = -1;  // number
  std::string odd_;       // the first that is no class
};

}  // namespace thimble
