-- The analytics store: one DDL for chDB 26.9 and for ClickHouse from 18.16 on.
--
-- A line "-- version N" begins what version N of the schema adds. A store is brought from its own
-- version to the last one when it is opened (ledger.migration), so a version that was released is
-- never edited: the next change is the next version. Neither engine has transactions over DDL, so
-- each statement must do no harm when it is run again.
--
-- Only what both understand: no LowCardinality, DateTime64, codec, TTL, projection or common table
-- expression. Times are Int64 epoch milliseconds, money is Int64 micros, a 128-bit id is two UInt64.
-- Retention is ALTER TABLE events DROP PARTITION, never a TTL. No semicolon may stand in a comment.

-- version 1

-- One row per event, in the words of market.events (same names, same units, same order).
-- The sorting key is a function of what the event id is derived from, so that rows of one id
-- replace each other and the last one received stays. Replacing works inside a partition only,
-- so the day is the day of the bid, which a repeated notice carries unchanged in its signed token.
-- Merges remove duplicates some time later: every query says FINAL.
CREATE TABLE IF NOT EXISTS events (
  -- day of bid_ms, UTC
  day Date,
  id_hi UInt64,
  id_lo UInt64,
  bid_hi UInt64,
  bid_lo UInt64,
  opportunity_hi UInt64,
  opportunity_lo UInt64,
  ts_ms Int64,
  recv_ms Int64,
  bid_ms Int64,
  deadline_ms Int64,
  user_key UInt64,
  deal_code UInt64,
  price_cpm_micros Int64,
  amount_micros Int64,
  floor_cpm_micros Int64,
  value_micros Int64,
  advertiser_id UInt32,
  campaign_id UInt32,
  line_item_id UInt32,
  creative_id UInt32,
  snapshot_version UInt32,
  model_version UInt32,
  policy_version UInt32,
  exchange UInt16,
  bid_currency UInt16,
  account_currency UInt16,
  reason UInt16,
  worker UInt16,
  flags UInt16,
  kind UInt8,
  format UInt8,
  pctr Float32,
  pcvr Float32,
  propensity Float32,
  weight Float32,
  features Array(UInt32),
  budgets Array(UInt64),
  caps Array(UInt64),
  rate_micros Int64,
  quantity_micros Int64,
  order_code UInt64,
  shading_factor Float32,
  size UInt32
) ENGINE = ReplacingMergeTree(recv_ms)
PARTITION BY day
ORDER BY (advertiser_id, campaign_id, kind, id_hi, id_lo);

-- The cursor of the loader: of each segment log, the first frame that is not in the table yet.
-- It lies in the engine and not in a file beside it, so that a store that was deleted or restored
-- from a copy starts where its own rows end.
CREATE TABLE IF NOT EXISTS cursors (
  log String,
  next_sequence UInt64
) ENGINE = ReplacingMergeTree(next_sequence)
ORDER BY log;

-- version 2

-- How many rows were ever inserted for a day, repeats included: a number that only grows and says
-- whether something that was computed from the day's events is still of today. Fed by the engine
-- itself at every insert, whoever inserts. Days that are there already start at their count.
CREATE TABLE IF NOT EXISTS touched_days (
  day Date,
  inserted UInt64
) ENGINE = SummingMergeTree(inserted)
ORDER BY day;

CREATE MATERIALIZED VIEW IF NOT EXISTS touched_by_events TO touched_days AS
SELECT day, toUInt64(count()) AS inserted FROM events GROUP BY day;

INSERT INTO touched_days SELECT day, toUInt64(count()) AS inserted FROM events GROUP BY day;

-- Events that no person caused, by the rules of ledger.fraud. An event is marked, never deleted,
-- and what a mark says of money is a sum beside the others. Reasons 0 takes a mark back.
CREATE TABLE IF NOT EXISTS invalid_traffic (
  -- the event's day and id
  day Date,
  id_hi UInt64,
  id_lo UInt64,
  advertiser_id UInt32,
  -- bits of ledger.fraud.Reason
  reasons UInt16,
  version UInt64
) ENGINE = ReplacingMergeTree(version)
PARTITION BY day
ORDER BY (id_hi, id_lo);

CREATE MATERIALIZED VIEW IF NOT EXISTS touched_by_marks TO touched_days AS
SELECT day, toUInt64(count()) AS inserted FROM invalid_traffic GROUP BY day;

-- Sums of the deduplicated events by hour. A day of it is computed from FROM events FINAL as a
-- whole, beside the old one, and takes its place at once (REPLACE PARTITION): sums are never added
-- to, so no repeat is counted twice. The day is the bid's, the hour that of the event.
CREATE TABLE IF NOT EXISTS delivery_hours (
  day Date,
  hour_ms Int64,
  advertiser_id UInt32,
  campaign_id UInt32,
  line_item_id UInt32,
  creative_id UInt32,
  exchange UInt16,
  format UInt8,
  account_currency UInt16,
  bids Int64,
  wins Int64,
  losses Int64,
  impressions Int64,
  clicks Int64,
  conversions Int64,
  conversion_value_micros Int64,
  spend_micros Int64,
  late_spend_micros Int64,
  disputed Int64,
  disputed_micros Int64,
  invalid_impressions Int64,
  invalid_clicks Int64,
  invalid_conversions Int64,
  invalid_conversion_value_micros Int64,
  invalid_spend_micros Int64,
  build UInt64
) ENGINE = ReplacingMergeTree(build)
PARTITION BY day
ORDER BY (advertiser_id, campaign_id, hour_ms, line_item_id, creative_id, exchange, format,
  account_currency);

-- touched_days.inserted of the day when its hours were computed: equal means up to date.
CREATE TABLE IF NOT EXISTS rollup_days (
  day Date,
  build UInt64
) ENGINE = ReplacingMergeTree(build)
ORDER BY day;

-- Retention: the first day that a table still keeps. It only grows, and is written before anything
-- is dropped.
CREATE TABLE IF NOT EXISTS retention (
  name String,
  kept_from Date
) ENGINE = ReplacingMergeTree(kept_from)
ORDER BY name;

-- Users whose data was erased, so that events of theirs that are loaded later are erased as well.
CREATE TABLE IF NOT EXISTS erased_users (
  user_key UInt64,
  erased_ms Int64
) ENGINE = ReplacingMergeTree(erased_ms)
ORDER BY user_key;

-- version 3

-- How many events of the day there were when its hours were computed: every kind but no-bids, tests
-- included, each once. Below 0: the hours are of an earlier version, and nobody counted.
ALTER TABLE rollup_days ADD COLUMN events Int64 DEFAULT -1;
