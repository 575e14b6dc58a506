-- The analytics store: one DDL for chDB 26.9 and for ClickHouse from 18.16 on.
--
-- Only what both understand: no LowCardinality, DateTime64, codec, TTL, projection or common table
-- expression. Times are Int64 epoch milliseconds, money is Int64 micros, a 128-bit id is two UInt64.
-- Retention is ALTER TABLE events DROP PARTITION, never a TTL. No semicolon may stand in a comment.

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
