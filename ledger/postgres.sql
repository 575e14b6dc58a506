-- Budgets that machines share: the rows that ledger.postgres moves money in. PostgreSQL 13 or later.
-- Ids are unsigned 64-bit numbers, kept as the signed one of the same bits. Money is micros of the
-- budget's currency, times are epoch milliseconds unless they are timestamps of the server.

-- A node is a recorder and its log. Who opens it takes a higher epoch; an older one is refused.
CREATE TABLE IF NOT EXISTS budget_nodes (
  log_id text PRIMARY KEY,
  node text NOT NULL,
  epoch bigint NOT NULL DEFAULT 1,
  -- the last frame of its log that it has spoken for
  sequence bigint NOT NULL DEFAULT 0,
  is_closed boolean NOT NULL DEFAULT false,
  contact_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS budget_nodes_open ON budget_nodes (node) WHERE NOT is_closed;

CREATE TABLE IF NOT EXISTS shared_budgets (
  budget_id bigint PRIMARY KEY,
  limit_micros bigint NOT NULL,
  -- of the intent that said so; the newest one holds
  intent_version bigint NOT NULL,
  end_at_ms bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS budget_allotments (
  budget_id bigint NOT NULL,
  log_id text NOT NULL,
  -- what the node may have spent and held, at most
  allotted_micros bigint NOT NULL,
  -- all that it ever spent, as it said last
  spent_on_time_micros bigint NOT NULL CHECK (spent_on_time_micros >= 0),
  spent_late_micros bigint NOT NULL CHECK (spent_late_micros >= 0),
  adjusted_micros bigint NOT NULL,
  open_micros bigint NOT NULL CHECK (open_micros >= 0),
  -- asked for in vain
  waiting_micros bigint NOT NULL,
  PRIMARY KEY (budget_id, log_id)
);

CREATE INDEX IF NOT EXISTS budget_allotments_of ON budget_allotments (log_id);
CREATE INDEX IF NOT EXISTS budget_allotments_waiting ON budget_allotments (budget_id)
  WHERE waiting_micros > 0;
