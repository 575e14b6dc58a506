-- Budgets, leases and reservations at scale: the rows that ledger.postgres moves money in.
-- PostgreSQL 13 or later. Ids are unsigned 64-bit numbers, kept as the signed one of the same bits.
-- Money is micros of the budget's currency, times are epoch milliseconds.

-- Who may write: the epoch grows with every owner, and an older one is refused.
CREATE TABLE IF NOT EXISTS owners (
  partition text PRIMARY KEY,
  epoch bigint NOT NULL,
  unfunded_count bigint NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS budgets (
  budget_id bigint PRIMARY KEY,
  limit_micros bigint NOT NULL DEFAULT 0,
  end_at_ms bigint NOT NULL DEFAULT 0,
  spent_on_time_micros bigint NOT NULL DEFAULT 0 CHECK (spent_on_time_micros >= 0),
  spent_late_micros bigint NOT NULL DEFAULT 0 CHECK (spent_late_micros >= 0),
  held_micros bigint NOT NULL DEFAULT 0,
  open_count bigint NOT NULL DEFAULT 0,
  reserved_micros_max bigint NOT NULL DEFAULT 0,
  -- whether a lease may be due since the last look
  is_touched boolean NOT NULL DEFAULT false
);

CREATE TABLE IF NOT EXISTS leases (
  budget_id bigint NOT NULL REFERENCES budgets,
  worker integer NOT NULL,
  held_micros bigint NOT NULL DEFAULT 0,
  open_micros bigint NOT NULL DEFAULT 0,
  frozen_micros bigint NOT NULL DEFAULT 0,
  frozen_until_ms bigint NOT NULL DEFAULT 0,
  is_frozen boolean NOT NULL DEFAULT false,
  used_ms bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (budget_id, worker)
);

CREATE TABLE IF NOT EXISTS workers (
  worker integer PRIMARY KEY,
  is_suspended boolean NOT NULL DEFAULT false,
  deadline_ms_max bigint NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS reservations (
  bid_hi bigint NOT NULL,
  bid_lo bigint NOT NULL,
  -- ledger.reservation.ReservationState
  state smallint NOT NULL,
  deadline_ms bigint NOT NULL,
  -- the bid's record, as in the log
  event bytea NOT NULL,
  PRIMARY KEY (bid_hi, bid_lo)
);

CREATE INDEX IF NOT EXISTS open_reservations ON reservations (deadline_ms) WHERE state = 1;
