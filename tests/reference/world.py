"""A period of a world, one opportunity and one exposure at a time, in plain Python.

Written from the formulas and rules that ``simulator.world`` states: effects in log-odds, keyed
draws, memories that fade by half-lives, orders of visits with and without what advertising left
behind. Everything is a dict and everything fades every tick; nothing is remembered lazily.
"""

from __future__ import annotations

import math
from collections import defaultdict

from market.chance import Purpose
from tests.reference import chance

ORGANIC = 2**31
STEP_ZERO = 2**24


def logistic(x):
    return 1 / (1 + math.exp(-x))


def place_in(cdf, u):
    return next((i for i, p in enumerate(cdf) if p > u), len(cdf) - 1)


class SlowWorld:
    def __init__(self, tables, seed, period):
        self.t, self.seed, self.period = tables, seed, period
        # Ticks of the periods before, for whoever lives on: see ``go_on``.
        self.before = 0
        self.need = defaultdict(float)
        self.made = defaultdict(float)
        self.alone = defaultdict(float)
        self.shown = defaultdict(float)
        self.left = defaultdict(float)
        effects = tables.effects
        half_life = math.log(0.5) / math.log(effects.need_decay)
        for age in range(math.ceil(6 * half_life) + 1):
            self.needs_arise(-age, effects.need_decay**age)

    def go_on(self):
        """Midnight: the next period has draws of its own, and everything else lives on."""
        self.period += 1
        self.before += self.t.scenario.tick_count

    def draw(self, purpose, tick, column, actor):
        key = chance.at_opportunity(
            chance.stream(self.seed, purpose), self.period, (tick << 32) + column
        )
        return chance.uniform(key, actor)

    def draw_normal(self, purpose, tick, column, actor):
        key = chance.at_opportunity(
            chance.stream(self.seed, purpose), self.period, (tick << 32) + column
        )
        return chance.normal(key, actor)

    def needs_arise(self, tick, size):
        effects = self.t.effects
        users = len(self.t.users.region)
        step, rate = STEP_ZERO + tick, effects.need_count
        for i in range(math.floor((step + 1) * rate) - math.floor(step * rate)):
            user = int(self.draw(Purpose.WORLD_NEED, STEP_ZERO + tick, i, 0) * users)
            u = self.draw(Purpose.WORLD_NEED, STEP_ZERO + tick, i, 1)
            self.need[user, place_in(self.t.traffic.need_cdf, u)] += effects.need_size * size

    def user_of(self, row, region, even, keep):
        first, end = (int(x) for x in self.t.users.region_first[region : region + 2])
        user = first + int(even * (end - first))
        share, alias = self.t.traffic.alias_share[row], self.t.traffic.alias_user[row]
        return user if keep < share[user] else int(alias[user])

    def who(self, tick, j):
        """(user, scene, where the turn of creatives stands) of opportunity j."""
        traffic = self.t.traffic
        scene = place_in(traffic.scene_cdf[tick], self.draw(Purpose.WORLD_SCENE, tick, j, 0))
        channel = int(self.t.scenes.channel[scene])
        region = place_in(
            traffic.region_cdf[tick, channel], self.draw(Purpose.WORLD_REGION, tick, j, 0)
        )
        even, keep = (self.draw(Purpose.WORLD_VISITOR, tick, j, i) for i in (0, 1))
        turn = self.draw(Purpose.WORLD_ROTATION, tick, j, 0)
        return self.user_of(channel, region, even, keep), scene, turn

    def terms(self, tick, j, scene):
        """(hard floor, soft floor, exposure draw, slots, rule, deal) of opportunity j."""
        scenes = self.t.scenes
        floor = 1
        if scenes.floor_micros[scene] > 0:
            z = self.draw_normal(Purpose.WORLD_FLOOR, tick, j, 0)
            factor = math.exp(scenes.floor_sigma[scene] * z)
            floor = max(math.ceil(scenes.floor_micros[scene] * factor), 1)
        soft = math.ceil(floor * scenes.soft_floor_factor[scene])
        drawn = math.floor(self.draw(Purpose.EXPOSURE, tick, j, 0) * 2**24) / 2**24
        cdf = scenes.deal_cdf[scene]
        u = self.draw(Purpose.DEAL, tick, j, 0)
        deal = next((d for d, p in enumerate(cdf, start=1) if u < p), 0)
        return floor, soft, drawn, int(scenes.slots[scene]), int(scenes.rule[scene]), deal

    def creative(self, turn, agent):
        count = self.t.agents.quality.shape[1]
        return int((turn + float(self.t.agents.shift[agent])) % 1 * count)

    def liking(self, tick, user, agent):
        users = self.t.users
        angle = float(users.turn[user]) * (self.before + tick)
        return sum(
            float(w) * (math.cos(angle) * float(x) + math.sin(angle) * float(y))
            for w, x, y in zip(
                self.t.agents.appeal[agent], users.taste[user], users.other[user], strict=True
            )
        )

    def click(self, tick, user, scene, agent, creative):
        users, agents, scenes, effects = self.t.users, self.t.agents, self.t.scenes, self.t.effects
        c = int(agents.category[agent])
        style = sum(
            float(x) * float(w)
            for x, w in zip(users.style[user], agents.style[agent, creative], strict=True)
        )
        return logistic(
            float(agents.click[agent])
            + float(scenes.click[scene])
            + float(scenes.device_click[users.device[user]])
            + float(agents.quality[agent, creative])
            + style
            + effects.taste_click * self.liking(tick, user, agent)
            + effects.need_click * (self.need[user, c] + self.made[user, c])
            - effects.fatigue_click * self.shown[user, agent]
        )

    def cart_odds(self, tick, user, agent, need):
        users, agents, scenes, effects = self.t.users, self.t.agents, self.t.scenes, self.t.effects
        return (
            float(agents.cart[agent])
            + float(scenes.device_cart[users.device[user]])
            + float(scenes.region_cart[users.region[user]])
            + float(self.t.traffic.holiday_cart[tick])
            + effects.taste_cart * self.liking(tick, user, agent)
            + effects.need_cart * need
            - float(users.sensitivity[user]) * float(agents.price_level[agent])
        )

    def cart(self, tick, user, scene, agent):
        c = int(self.t.agents.category[agent])
        if not self.t.agents.sold[agent, self.t.users.region[user]]:
            return 0.0
        return logistic(
            self.cart_odds(tick, user, agent, self.need[user, c] + self.made[user, c])
            + float(self.t.scenes.cart[scene])
            + self.t.effects.left_cart * self.left[user, agent]
        )

    def order_probability(self, tick, user, scene, agent, creative):
        return (
            float(self.t.scenes.viewability[scene])
            * self.click(tick, user, scene, agent, creative)
            * self.cart(tick, user, scene, agent)
            * self.t.effects.order_rate
        )

    def value(self, tick, who, agent):
        user, scene, turn = who
        region = int(self.t.users.region[user])
        regions = len(self.t.scenes.region_cart)
        return (
            self.order_probability(tick, user, scene, agent, self.creative(turn, agent))
            * float(self.t.agents.belief[agent, scene * regions + region])
            * float(self.t.traffic.surge[tick, agent])
        )

    def outcome(self, tick, j, who, agent):
        """0 exposed, 1 viewed, 2 clicked, 3 carted, 4 ordered."""
        user, scene, turn = who
        steps = (
            (Purpose.VIEW, float(self.t.scenes.viewability[scene])),
            (Purpose.CLICK, self.click(tick, user, scene, agent, self.creative(turn, agent))),
            (Purpose.CART, self.cart(tick, user, scene, agent)),
            (Purpose.CONVERSION, self.t.effects.order_rate),
        )
        reached = 0
        for purpose, probability in steps:
            if self.draw(purpose, tick, j, agent) >= probability:
                break
            reached += 1
        return reached

    def visit(self, tick, v):
        """(user, agent, ordered, would have ordered without advertising, exposures remembered)."""
        traffic, effects = self.t.traffic, self.t.effects
        shop = len(traffic.alias_share) - 1
        draws = [self.draw(Purpose.ORGANIC_VISITOR, tick, ORGANIC + v, i) for i in range(3)]
        region = place_in(traffic.region_cdf[tick, shop], draws[0])
        user = self.user_of(shop, region, draws[1], draws[2])
        agent = place_in(
            traffic.product_cdf, self.draw(Purpose.ORGANIC_PRODUCT, tick, ORGANIC + v, 0)
        )
        c = int(self.t.agents.category[agent])
        drawn = self.draw(Purpose.ORGANIC_ORDER, tick, ORGANIC + v, 0)
        is_sold = self.t.agents.sold[agent, region] > 0

        def ordered(made, left):
            odds = self.cart_odds(tick, user, agent, self.need[user, c] + made[user, c])
            odds += effects.organic_cart + effects.left_cart * left
            return is_sold and drawn < logistic(odds) * effects.order_rate

        return (
            user,
            agent,
            ordered(self.made, self.left[user, agent]),
            ordered(self.alone, 0.0),
            self.shown[user, agent],
        )

    def order(self, tick, column, agent, is_ad, is_real, memory):
        """What an order brings, and when."""
        agents, orders = self.t.agents, self.t.orders

        def normal(purpose, actor):
            return self.draw_normal(purpose, tick, column, actor)

        def spread(mean, sigma, z):
            return mean * math.exp(sigma * z - sigma**2 / 2)

        due = tick
        if is_ad:
            delay = math.exp(orders.delay_sigma * normal(Purpose.CONVERSION_DELAY, agent))
            due += int(orders.delay_median * delay)
        first = repeats = in_app = refund = 0
        if agents.is_app[agent]:
            z = normal(Purpose.LIFETIME, 4 * agent)
            brought = spread(orders.ads_micros, orders.ads_sigma, z)
            pays = self.draw(Purpose.LIFETIME, tick, column, 4 * agent + 3) < orders.payer_share
            if pays:
                z = normal(Purpose.LIFETIME, 4 * agent + 1)
                brought += spread(orders.purchase_micros, orders.purchase_sigma, z)
            in_app = int(brought)
        else:
            z = normal(Purpose.CONVERSION_VALUE, agent)
            first = int(spread(float(agents.price_micros[agent]), orders.value_sigma, z))
            u = self.draw(Purpose.REPEAT, tick, column, agent)
            while u < orders.repeat_share ** (repeats + 1):
                repeats += 1
            if self.draw(Purpose.RETURN, tick, column, agent) < orders.return_share:
                refund = first
        u = self.draw(Purpose.ATTRIBUTION, tick, column, agent)
        known = u >= orders.missed_share
        if not is_ad:
            known = is_real and memory >= orders.claim_memory and u < orders.claimed_share
        loss = self.t.traffic.tracking_loss
        lost = loss[min(due, len(loss) - 1)]
        known = known and self.draw(Purpose.TRACKING, tick, column, agent) >= lost
        return {
            "tick": tick,
            "column": column,
            "agent": agent,
            "is_ad": int(is_ad),
            "is_real": int(is_real),
            "is_reported": int(known),
            "due_tick": due,
            "refund_tick": due + math.ceil(orders.return_delay),
            "first_micros": first,
            "repeat_count": repeats,
            "repeat_micros": repeats * int(orders.repeat_value_factor * first),
            "in_app_micros": in_app,
            "refund_micros": refund,
        }

    def satisfy(self, made, user, agent):
        c = int(self.t.agents.category[agent])
        made[user, c] -= self.t.effects.substitute_need
        for other, lift in enumerate(self.t.effects.complement[c]):
            made[user, other] += float(lift)

    def settle(self, tick, crowd, exposures):
        """Returns outcomes and orders of a tick; ``exposures`` are (opportunity, agent)."""
        outcomes = [self.outcome(tick, j, crowd[j], a) for j, a in exposures]
        visits = [self.visit(tick, v) for v in range(int(self.t.traffic.visits[tick]))]
        orders = [
            self.order(tick, j, a, True, True, 0.0) | {"is_alone": 0, "user": crowd[j][0]}
            for (j, a), reached in zip(exposures, outcomes, strict=True)
            if reached == 4
        ]
        for v, (user, agent, has, had, memory) in enumerate(visits):
            if has or had:
                found = self.order(tick, ORGANIC + v, agent, False, has, memory)
                orders.append(found | {"is_alone": int(had), "user": user})
        self.remember(crowd, exposures, outcomes)
        for user, agent, has, had, _ in visits:
            if has:
                self.left[user, agent] = 0.0
                self.satisfy(self.made, user, agent)
            if had:
                self.satisfy(self.alone, user, agent)
        self.fade()
        self.needs_arise(tick + 1, 1.0)
        return outcomes, orders

    def remember(self, crowd, exposures, outcomes):
        effects = self.t.effects
        for (j, a), reached in zip(exposures, outcomes, strict=True):
            user = crowd[j][0]
            if reached >= 1:
                self.shown[user, a] += 1
            if reached >= 2:
                self.made[user, int(self.t.agents.category[a])] += effects.halo_need
            if reached == 3:
                self.left[user, a] = 1.0
            if reached == 4:
                self.left[user, a] = 0.0
                self.satisfy(self.made, user, a)

    def fade(self):
        effects = self.t.effects
        for needs in (self.need, self.made, self.alone):
            for name in needs:
                needs[name] *= effects.need_decay
        for memory, decay in ((self.shown, effects.memory_decay), (self.left, effects.cart_decay)):
            for name in memory:
                memory[name] *= float(decay[1])
