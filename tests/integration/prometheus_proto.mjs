// Prometheus' protobuf exposition, decoded: what a scraper of native histograms
// sees. The schema is the part of io.prometheus.client that we know of.
import { createRequire } from "node:module";

const protobuf = createRequire(import.meta.url)("protobufjs");

const SCHEMA = `
  syntax = "proto2";
  package io.prometheus.client;
  message LabelPair { optional string name = 1; optional string value = 2; }
  enum MetricType { COUNTER = 0; GAUGE = 1; SUMMARY = 2; UNTYPED = 3; HISTOGRAM = 4; GAUGE_HISTOGRAM = 5; }
  message Timestamp { optional int64 seconds = 1; optional int32 nanos = 2; }
  message Exemplar { repeated LabelPair label = 1; optional double value = 2; optional Timestamp timestamp = 3; }
  message Gauge { optional double value = 1; }
  message Counter { optional double value = 1; optional Exemplar exemplar = 2; optional Timestamp created_timestamp = 3; }
  message Bucket { optional uint64 cumulative_count = 1; optional double upper_bound = 2; optional Exemplar exemplar = 3; }
  message BucketSpan { optional sint32 offset = 1; optional uint32 length = 2; }
  message Histogram {
    optional uint64 sample_count = 1; optional double sample_sum = 2; repeated Bucket bucket = 3;
    optional sint32 schema = 5; optional double zero_threshold = 6; optional uint64 zero_count = 7;
    repeated BucketSpan negative_span = 9; repeated sint64 negative_delta = 10;
    repeated BucketSpan positive_span = 12; repeated sint64 positive_delta = 13;
    optional Timestamp created_timestamp = 15;
  }
  message Metric { repeated LabelPair label = 1; optional Gauge gauge = 2; optional Counter counter = 3; optional Histogram histogram = 7; }
  message MetricFamily { optional string name = 1; optional string help = 2; optional MetricType type = 3; repeated Metric metric = 4; }`;

const Family = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType("io.prometheus.client.MetricFamily");

export const ACCEPT = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

// {index of Prometheus: count}: spans say where buckets are, deltas how they differ.
function buckets_of(spans, deltas) {
  const found = new Map();
  let at = 0;
  let count = 0;
  let next = 0;
  for (const { offset = 0, length = 0 } of spans) {
    at += offset;
    for (let i = 0; i < length; i++) {
      count += Number(deltas[next++]);
      found.set(at++, count);
    }
  }
  if (next !== deltas.length) {
    throw new Error(`${deltas.length} deltas for ${next} buckets`);
  }
  return found;
}

function value_of(metric) {
  const h = metric.histogram;
  if (!h) {
    return (metric.counter ?? metric.gauge).value ?? 0;
  }
  return {
    count: Number(h.sample_count ?? 0),
    sum: h.sample_sum,
    classic: (h.bucket ?? []).map((b) => [b.upper_bound, Number(b.cumulative_count ?? 0)]),
    exemplars: (h.bucket ?? []).map((b) => b.exemplar).filter(Boolean),
    schema: h.schema ?? 0,
    zero_threshold: h.zero_threshold,
    zero: Number(h.zero_count ?? 0),
    positive: buckets_of(h.positive_span ?? [], h.positive_delta ?? []),
    negative: buckets_of(h.negative_span ?? [], h.negative_delta ?? []),
    created_s: Number(h.created_timestamp?.seconds ?? 0),
  };
}

/** {name: {type, help, series: Map("a=b,c=d" -> value or histogram)}}. */
export function decode(bytes) {
  const reader = protobuf.Reader.create(bytes);
  const families = new Map();
  while (reader.pos < reader.len) {
    const family = Family.toObject(Family.decodeDelimited(reader), { longs: String, enums: String });
    if (families.has(family.name)) {
      throw new Error(`${family.name} is there twice`);
    }
    families.set(family.name, {
      type: family.type ?? "COUNTER",
      help: family.help,
      series: new Map((family.metric ?? []).map((m) =>
        [(m.label ?? []).map(({ name, value = "" }) => `${name}=${value}`).join(","), value_of(m)])),
    });
  }
  return families;
}
