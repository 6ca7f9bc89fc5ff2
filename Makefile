# stripe_sync: Stripe, Postgres and Slack kept in agreement by the database
#
#	make, make install		build and install for the server of PG_CONFIG
#	make test				everything, on a throw-away server of its own
#	make test-majors		the same for PostgreSQL 17, 18 and 19, in chroots
#	make test-versions		what depends on the version, for 18 and 19
#	make test-sanitized		with AddressSanitizer, for 17
#	make test-clock			the regression tests at other hours, on other days, in other zones
#	make test-all			everything on everything, for before a release
#	make demo, demo-stop	a story of events on a throw-away server, told to a stub of Slack
#	make demo-slack			what that Slack shows
#	make installcheck		the tests on a server that is running
#	make bench, fuzz		measure; feed nonsense
#	make bench-record		what it costs to record which handlers ran
#	make bench-scale		traces, doctor and dashboards with 2,000,000 events
#	make screenshots		doc/images/*.png: the dashboard of a story
#	make reference			doc/reference.md, from the catalog
#	make format, format-check

.DEFAULT_GOAL = all

PG_CONFIG ?= pg_config

# The one source of the version is the control file.
EXTENSION = stripe_sync
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" stripe_sync.control)

MODULE_big = stripe_sync
# By folder, in the order of src/layers: a folder uses only those before it.
OBJS = \
	src/base/settings.o \
	src/base/argument.o \
	src/base/json.o \
	src/base/json_compare.o \
	src/base/subtransaction.o \
	src/base/backoff.o \
	src/base/refusal.o \
	src/base/text.o \
	src/base/visible.o \
	src/base/html.o \
	src/base/money.o \
	src/engine/scope.o \
	src/engine/scope_stack.o \
	src/engine/deferred.o \
	src/engine/scope_guard.o \
	src/engine/scope_leftover.o \
	src/engine/noted_path.o \
	src/engine/own.o \
	src/engine/statement.o \
	src/engine/array_argument.o \
	src/engine/cursor.o \
	src/engine/setup_cache.o \
	src/engine/engine.o \
	src/engine/advisory.o \
	src/engine/direct_row.o \
	src/engine/level.o \
	src/engine/timed.o \
	src/engine/worker_transaction.o \
	src/engine/lease_holder.o \
	src/server/worker_slots.o \
	src/server/launcher.o \
	src/server/database_ddl.o \
	src/server/outbound.o \
	src/server/standstill.o \
	src/server/journal.o \
	src/server/refused_count.o \
	src/server/counters.o \
	src/server/counters_pending.o \
	src/server/counters_file.o \
	src/server/counters_kind.o \
	src/types/catalog.o \
	src/types/object_types.o \
	src/types/event_name.o \
	src/types/object_key.o \
	src/types/object_page.o \
	src/types/grant.o \
	src/generated/catalog_data.o \
	src/http/url.o \
	src/http/request.o \
	src/http/http.o \
	src/http/response.o \
	src/http/sockets.o \
	src/inbox/hmac.o \
	src/inbox/signature.o \
	src/inbox/secret.o \
	src/inbox/secret_row.o \
	src/inbox/secret_kind.o \
	src/inbox/verify.o \
	src/inbox/request_header.o \
	src/inbox/endpoint.o \
	src/inbox/endpoint_secret.o \
	src/inbox/endpoint_mode.o \
	src/inbox/account.o \
	src/inbox/event.o \
	src/inbox/event_store.o \
	src/inbox/inbox_table.o \
	src/inbox/event_error.o \
	src/inbox/handler_run.o \
	src/tables/column_value.o \
	src/tables/mirror_schema.o \
	src/tables/mirror_columns.o \
	src/tables/stored_index.o \
	src/tables/address_index.o \
	src/tables/table_ddl.o \
	src/tables/create_tables.o \
	src/tables/fill_columns.o \
	src/tables/table_note.o \
	src/tables/table_relation.o \
	src/tables/table_policy.o \
	src/tables/table_bind.o \
	src/tables/table_cache.o \
	src/tables/child_key.o \
	src/mirror/snapshot.o \
	src/mirror/life_cycle.o \
	src/mirror/mirror_state.o \
	src/mirror/mirror_direct.o \
	src/mirror/mirror_sql.o \
	src/mirror/mirror_row.o \
	src/mirror/event_history.o \
	src/mirror/newest.o \
	src/mirror/fetched_note.o \
	src/mirror/former_reading.o \
	src/mirror/left_out.o \
	src/mirror/precedence.o \
	src/mirror/fetched_gone.o \
	src/mirror/fetched_row.o \
	src/mirror/children_locks.o \
	src/mirror/children.o \
	src/mirror/late_children.o \
	src/mirror/refetch_request.o \
	src/mirror/apply_event.o \
	src/mirror/fetched.o \
	src/handler/handler.o \
	src/handler/handler_call.o \
	src/handler/registered.o \
	src/handler/handler_setup.o \
	src/handler/handler_trial.o \
	src/message/template.o \
	src/message/template_blocks.o \
	src/message/template_preview.o \
	src/message/template_parse.o \
	src/message/template_path.o \
	src/message/template_filter.o \
	src/message/template_map.o \
	src/message/template_monthly.o \
	src/message/template_who.o \
	src/message/dashboard_link.o \
	src/message/mrkdwn.o \
	src/message/block_json.o \
	src/message/block_buttons.o \
	src/message/block_kit.o \
	src/message/block_limits.o \
	src/message/block_newer.o \
	src/message/block_table.o \
	src/message/block_plain.o \
	src/message/block_fitting.o \
	src/outbox/slack_judge.o \
	src/outbox/slack_answer.o \
	src/outbox/destination.o \
	src/outbox/destination_argument.o \
	src/outbox/destination_pace.o \
	src/outbox/destination_setup.o \
	src/outbox/destination_app.o \
	src/outbox/destination_link.o \
	src/outbox/destination_refused.o \
	src/outbox/secret_rotation.o \
	src/outbox/destination_test.o \
	src/outbox/outbox.o \
	src/outbox/claim.o \
	src/outbox/prepare.o \
	src/outbox/delivery.o \
	src/outbox/sender.o \
	src/outbox/settle.o \
	src/outbox/release.o \
	src/outbox/dead_sender.o \
	src/quiet/quiet_days.o \
	src/quiet/quiet_setup.o \
	src/quiet/quiet_window.o \
	src/quiet/quiet_digest.o \
	src/quiet/quiet_end.o \
	src/alert/alert_rule.o \
	src/alert/alert.o \
	src/alert/alert_setup.o \
	src/alert/default_alerts.o \
	src/alert/incident_key.o \
	src/alert/alerted.o \
	src/alert/burst.o \
	src/alert/incident_row.o \
	src/alert/incident.o \
	src/alert/incident_close.o \
	src/alert/incident_text.o \
	src/alert/incident_message.o \
	src/alert/incident_end.o \
	src/alert/outbox_hooks.o \
	src/alert/own_event.o \
	src/alert/escalation.o \
	src/alert/incident_queue.o \
	src/alert/incident_step.o \
	src/alert/alert_mute.o \
	src/silence/silence.o \
	src/slack_in/slack_signature.o \
	src/slack_in/verify_slack.o \
	src/slack_in/form.o \
	src/slack_in/app.o \
	src/slack_in/slack_request.o \
	src/slack_in/slack_json.o \
	src/slack_in/slack_payload.o \
	src/slack_in/interaction.o \
	src/slack_in/app_setup.o \
	src/slack_calls/slack_call.o \
	src/slack_calls/slack_call_claim.o \
	src/slack_calls/slack_call_request.o \
	src/slack_calls/slack_call_settle.o \
	src/slack_calls/slack_call_send.o \
	src/slack_calls/slack_group.o \
	src/slack_calls/slack_group_members.o \
	src/receive/endpoint_setup.o \
	src/receive/refused_delivery.o \
	src/receive/matching_secret.o \
	src/receive/refused_write.o \
	src/receive/refused_watch.o \
	src/receive/receipt.o \
	src/receive/step_list.o \
	src/receive/steps.o \
	src/receive/step_outcome.o \
	src/receive/failed_events.o \
	src/receive/recovered_events.o \
	src/receive/held.o \
	src/receive/replay.o \
	src/receive/receive.o \
	src/receive/webhook.o \
	src/receive/due_events.o \
	src/simulate/previous.o \
	src/simulate/predecessor.o \
	src/simulate/fixture.o \
	src/simulate/simulate.o \
	src/simulate/story.o \
	src/generated/fixture_data.o \
	src/stripe/api_key.o \
	src/stripe/protocol.o \
	src/stripe/list_page.o \
	src/stripe/client.o \
	src/jobs/job.o \
	src/jobs/wait_job.o \
	src/jobs/part_kind.o \
	src/jobs/part.o \
	src/jobs/cursor.o \
	src/jobs/page_size.o \
	src/jobs/outcome.o \
	src/jobs/part_claim.o \
	src/jobs/part_advance.o \
	src/jobs/runner.o \
	src/jobs/reclaim.o \
	src/jobs/api_path.o \
	src/jobs/unread.o \
	src/endpoints/subscribed_types.o \
	src/endpoints/new_endpoint.o \
	src/endpoints/webhook_endpoint.o \
	src/endpoints/endpoint_watch.o \
	src/endpoints/endpoint_judge.o \
	src/sync/backfill.o \
	src/sync/backfill_types.o \
	src/sync/backfill_parts.o \
	src/sync/backfill_order.o \
	src/sync/object_list.o \
	src/sync/nested_list.o \
	src/sync/account_age.o \
	src/sync/vanished.o \
	src/sync/refetch.o \
	src/sync/reconcile.o \
	src/sync/event_list.o \
	src/sync/missing_events.o \
	src/sync/kinds.o \
	src/sync/set_api_key.o \
	src/sync/move_account.o \
	src/inspect/explain.o \
	src/inspect/verify_report.o \
	src/inspect/verify_row.o \
	src/inspect/verify_keys.o \
	src/inspect/verify_lacking.o \
	src/inspect/verify_mirror.o \
	src/inspect/verify_part.o \
	src/history/difference.o \
	src/history/patch.o \
	src/history/changes.o \
	src/history/history_types.o \
	src/history/state_copy.o \
	src/history/point.o \
	src/history/child.o \
	src/history/kept.o \
	src/history/sources.o \
	src/history/timeline.o \
	src/history/object_row.o \
	src/history/history.o \
	src/history/objects.o \
	src/history/as_of.o \
	src/history/forgotten.o \
	src/history/keep.o \
	src/history/prune_kept.o \
	src/wording/words.o \
	src/wording/value.o \
	src/wording/field_rank.o \
	src/wording/changes.o \
	src/wording/event_changes.o \
	src/wording/object_words.o \
	src/lookup/visible_rows.o \
	src/lookup/visible_search.o \
	src/lookup/links.o \
	src/lookup/referrers.o \
	src/lookup/find_event.o \
	src/lookup/find_object.o \
	src/lookup/find_message.o \
	src/lookup/reference.o \
	src/trace/record.o \
	src/trace/events.o \
	src/trace/follow.o \
	src/trace/belong.o \
	src/trace/steps.o \
	src/trace/alerts.o \
	src/trace/people.o \
	src/trace/unsaid.o \
	src/trace/deliveries.o \
	src/trace/journal.o \
	src/trace/messages.o \
	src/trace/fetches.o \
	src/trace/own_story.o \
	src/trace/trace.o \
	src/trace/heading.o \
	src/trace/verdict.o \
	src/trace/verdict_event.o \
	src/trace/verdict_message.o \
	src/trace/text.o \
	src/trace/html.o \
	src/finding/finding.o \
	src/stripe_items/recent_events.o \
	src/stripe_items/event_items.o \
	src/stripe_items/failure_items.o \
	src/stripe_items/endpoint_items.o \
	src/stripe_items/api_items.o \
	src/stripe_items/stripe_items.o \
	src/slack_items/destinations.o \
	src/slack_items/messages.o \
	src/slack_items/alerts.o \
	src/slack_items/incidents.o \
	src/slack_items/slack_items.o \
	src/postgres_items/server_items.o \
	src/postgres_items/keys.o \
	src/postgres_items/indexes.o \
	src/postgres_items/vacuum.o \
	src/postgres_items/constraints.o \
	src/postgres_items/size.o \
	src/postgres_items/server_words.o \
	src/postgres_items/server_worker.o \
	src/postgres_items/server_sessions.o \
	src/postgres_items/server_transactions.o \
	src/postgres_items/server_xids.o \
	src/postgres_items/server_replication.o \
	src/postgres_items/server_wal.o \
	src/postgres_items/server_backups.o \
	src/postgres_items/server_statements.o \
	src/postgres_items/server_settings.o \
	src/postgres_items/storage_items.o \
	src/doctor/items.o \
	src/doctor/look.o \
	src/doctor/record.o \
	src/doctor/doctor.o \
	src/doctor/mute.o \
	src/doctor/raise.o \
	src/doctor/watch.o \
	src/bot/receive_slack.o \
	src/bot/tell.o \
	src/bot/tell_trace.o \
	src/bot/permission.o \
	src/bot/press.o \
	src/bot/press_incident.o \
	src/bot/press_system.o \
	src/bot/command.o \
	src/bot/command_billing.o \
	src/bot/command_customer.o \
	src/bot/command_incident.o \
	src/bot/command_status.o \
	src/bot/command_text.o \
	src/bot/action_setup.o \
	src/bot/user_function.o \
	src/bot/user_function_answer.o \
	src/metrics/samples.o \
	src/metrics/counted.o \
	src/metrics/waiting.o \
	src/metrics/server_state.o \
	src/metrics/collect.o \
	src/metrics/activity.o \
	src/metrics/prometheus.o \
	src/dashboard/figures.o \
	src/dashboard/backlog.o \
	src/dashboard/state.o \
	src/dashboard/findings.o \
	src/dashboard/words.o \
	src/dashboard/markup.o \
	src/dashboard/style.o \
	src/dashboard/chart.o \
	src/dashboard/charts.o \
	src/dashboard/panels.o \
	src/dashboard/page_findings.o \
	src/dashboard/events.o \
	src/dashboard/page.o \
	src/dashboard/screen.o \
	src/dashboard/text.o \
	src/worker/loop.o \
	src/worker/work.o \
	src/worker/prune_events.o \
	src/worker/prune.o \
	src/worker/backup_note.o \
	src/worker/worker.o \
	src/worker/stripe_sync.o

# The install script's fragments, in the order of the folders.
INSTALL_SQL = \
	src/install/header.sql \
	src/server/journal.sql \
	src/server/server.sql \
	src/types/types.sql \
	src/inbox/endpoint.sql \
	src/inbox/event.sql \
	src/inbox/record.sql \
	src/tables/tables.sql \
	src/mirror/mirror.sql \
	src/handler/handler.sql \
	src/message/template.sql \
	src/outbox/destination.sql \
	src/outbox/message.sql \
	src/quiet/quiet.sql \
	src/alert/alert.sql \
	src/silence/silence.sql \
	src/slack_in/slack_in.sql \
	src/slack_calls/slack_calls.sql \
	src/receive/endpoint_setup.sql \
	src/receive/receive.sql \
	src/receive/refused.sql \
	src/simulate/simulate.sql \
	src/stripe/stripe.sql \
	src/jobs/jobs.sql \
	src/endpoints/webhook_endpoint.sql \
	src/sync/sync.sql \
	src/sync/move_account.sql \
	src/inspect/inspect.sql \
	src/history/history.sql \
	src/trace/trace.sql \
	src/trace/trace_text.sql \
	src/doctor/doctor.sql \
	src/bot/bot.sql \
	src/metrics/metrics.sql \
	src/dashboard/dashboard.sql \
	src/worker/worker.sql \
	src/install/grants.sql

# Tests, in the order of the flow.
REGRESS = base_settings base_arguments engine_role engine_scope engine_rights \
	engine_level engine_own engine_columns types_catalog inbox_signature inbox_endpoint \
	inbox_account inbox_secrets inbox_record tables_shape mirror_apply mirror_row \
	mirror_order mirror_fetched mirror_lines handler_run message_template message_filters message_blocks message_newer \
	outbox_destination outbox_message outbox_destination_refused alert_rule \
	quiet_hours alert_incident alert_step alert_closing alert_emit alert_silence slack_in_signature slack_in_request bot_action receive_event receive_webhook receive_refused \
	receive_failure receive_ten_failures receive_failed_events simulate_event \
	endpoints_webhook_endpoint inspect_verify inspect_explain history_object trace_text \
	metrics_activity dashboard_page bot_press bot_attack worker_prune
# The last two leave the extension.
ISOLATION = account duplicate emit same_object same_second shared replay incident recovered slack_twice slack_lock incident_press press
PROVE_TESTS = \
	test/tap/engine/advisory.pl \
	test/tap/engine/scope.pl \
	test/tap/engine/attack_objects.pl \
	test/tap/engine/attack_scope.pl \
	test/tap/engine/attack_shape.pl \
	test/tap/engine/role_matrix.pl \
	test/tap/engine/legitimate.pl \
	test/tap/engine/level.pl \
	test/tap/server/guard.pl \
	test/tap/server/worker.pl \
	test/tap/server/interference.pl \
	test/tap/server/clock.pl \
	test/tap/server/dump.pl \
	test/tap/server/upgrade.pl \
	test/tap/inbox/secret.pl \
	test/tap/mirror/order.pl \
	test/tap/mirror/fetched.pl \
	test/tap/mirror/fixtures.pl \
	test/tap/history/as_of.pl \
	test/tap/history/kept.pl \
	test/tap/outbox/answers.pl \
	test/tap/outbox/delivery.pl \
	test/tap/outbox/sender.pl \
	test/tap/outbox/thread.pl \
	test/tap/outbox/blocks.pl \
	test/tap/slack_calls/calls.pl \
	test/tap/slack_calls/groups.pl \
	test/tap/slack_in/request.pl \
	test/tap/quiet/quiet.pl \
	test/tap/bot/press.pl \
	test/tap/alert/alert.pl \
	test/tap/alert/people.pl \
	test/tap/receive/concurrency.pl \
	test/tap/receive/cancel.pl \
	test/tap/receive/crash.pl \
	test/tap/receive/retry.pl \
	test/tap/receive/refused.pl \
	test/tap/receive/storm.pl \
	test/tap/receive/fuzz_sql.pl \
	test/tap/simulate/simulate.pl \
	test/tap/jobs/job.pl \
	test/tap/endpoints/webhook_endpoint.pl \
	test/tap/endpoints/endpoint_watch.pl \
	test/tap/sync/backfill.pl \
	test/tap/sync/backfill_again.pl \
	test/tap/sync/backfill_faults.pl \
	test/tap/sync/backfill_trust.pl \
	test/tap/sync/reconcile.pl \
	test/tap/sync/reconcile_faults.pl \
	test/tap/sync/refetch.pl \
	test/tap/trace/hostile.pl \
	test/tap/trace/story.pl \
	test/tap/trace/fetched.pl \
	test/tap/trace/told.pl \
	test/tap/doctor/fresh.pl \
	test/tap/doctor/hints.pl \
	test/tap/doctor/watch.pl \
	test/tap/doctor/slack.pl \
	test/tap/doctor/stripe.pl \
	test/tap/doctor/server.pl \
	test/tap/doctor/storage.pl \
	test/tap/doctor/runbook.pl \
	test/tap/bot/circle.pl \
	test/tap/metrics/metrics.pl \
	test/tap/dashboard/chromium.pl \
	test/tap/bot/command.pl \
	test/tap/bot/user_function.pl

# Started first: what takes longest.
SLOW = $(addprefix tap:test/tap/, $(addsuffix .pl, mirror/order mirror/fetched simulate/simulate outbox/answers sync/backfill \
	sync/backfill_again receive/cancel server/worker endpoints/endpoint_watch receive/storm)) \
	$(patsubst %,extra:test/extra/%.sh, node_front fronts stripe_stub demo)

# What sanitizers look over: all but what repeats the same for long.
SANITIZED = regress isolation $(addprefix tap:test/tap/, $(addsuffix .pl, server/worker receive/refused receive/retry engine/scope \
	server/guard engine/level outbox/answers alert/alert outbox/delivery outbox/sender server/interference outbox/thread receive/crash sync/reconcile \
	sync/reconcile_faults sync/refetch jobs/job sync/backfill_faults sync/backfill_again sync/backfill_trust \
	endpoints/webhook_endpoint endpoints/endpoint_watch receive/storm engine/attack_scope engine/attack_shape trace/story metrics/metrics \
	slack_in/request slack_calls/calls bot/press bot/command bot/user_function))

# What may differ between versions of the server and of what comes with it: rows
# written by the executor's parts, processes, shared memory, locks, libcurl, whose
# rights code runs with, what is dumped and upgraded, what the server says of itself.
VERSIONED = regress isolation $(addprefix tap:test/tap/, $(addsuffix .pl, mirror/fixtures \
	receive/concurrency receive/cancel server/dump server/worker receive/refused engine/scope server/guard engine/level server/upgrade outbox/delivery outbox/sender receive/crash sync/backfill \
	engine/attack_scope engine/attack_objects engine/attack_shape engine/role_matrix engine/legitimate doctor/server metrics/metrics slack_calls/calls bot/user_function))

INSTALL_SCRIPT_SQL = stripe_sync--$(EXTVERSION).sql
DATA_built = $(INSTALL_SCRIPT_SQL)
DOCS = $(filter-out %/README.md,$(wildcard doc/runbook/*.md)) doc/metrics/alerts.yml doc/metrics/grafana.json
TAP_TESTS = 1
ISOLATION_OPTS = --inputdir=test/isolation
EXTRA_CLEAN = src/generated $(OBJS:.o=.d) stripe_sync--*.sql .built-for tmp_check \
	tmp_check_iso output_iso results regression.diffs regression.out

# What the server's macros and callbacks need and -Wextra minds is let pass;
# its headers are system headers to us, whose warnings nobody can mend here.
# PostgreSQL 15 and 16 ask for declarations first, we don't.  Its own flags are
# of the compiler it was built with, so clang may not know them all.
PG_CFLAGS = -std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror \
	-Wno-declaration-after-statement -Wno-unused-parameter \
	-Wno-sign-compare -Wno-missing-field-initializers \
	$(if $(findstring clang,$(CC)),-Wno-ignored-optimization-argument \
		-Wno-ignored-attributes -Wno-cast-function-type-strict \
		-Wno-unknown-warning-option)
PG_CPPFLAGS = -Isrc -MMD -MP -DSTRIPE_SYNC_VERSION='"$(EXTVERSION)"' -isystem $(shell $(PG_CONFIG) --includedir-server)

# Modules share one name space, so nothing is visible but what the server
# looks up.  (Its own macros mark that from 16 on only: the linker's list
# does for all.)
EXPORTS = Pg_magic_func _PG_init pg_finfo_stripe_sync_* stripe_sync_*
EXPORTS_MAP = src/generated/exports.map
SHLIB_LINK = -lcurl -lcrypto -Wl,--version-script=$(EXPORTS_MAP)

# Bitcode would let the server inline our functions into queries, which none
# of them gains from, and needs the very clang that the server was built with.
override with_llvm = no

# ---- what needs no server to build for ----

DRIVERS = test test-majors test-versions test-sanitized test-clock test-all demo demo-slack demo-stop bench bench-record bench-scale fuzz screenshots reference format format-check
.PHONY: $(DRIVERS)

test:
	@test/run

test-majors:
	@test/majors $(MAJORS)

test-sanitized:
	@STRIPE_SYNC_SANITIZE=1 test/majors 17 $(SANITIZED)

test-versions:
	@test/majors $(or $(MAJORS),18 19) $(VERSIONED)

test-clock:
	@test/clock

test-all:
	@test/all

demo:
	@test/demo/run

demo-slack:
	@test/demo/slack

demo-stop:
	@test/demo/stop

bench:
	@test/bench/run

bench-record:
	@test/bench/run record

bench-scale:
	@test/bench/run scale

fuzz:
	@test/fuzz/run

screenshots:
	@test/screenshots/run

reference:
	@test/reference

CLANG_FORMAT ?= $(firstword $(foreach name,clang-format-14 clang-format, \
	$(if $(shell command -v $(name)),$(name))) clang-format-14)
FORMATTED = $(filter-out src/generated/%,$(wildcard src/*/*.c src/*/*.h))

format:
	$(CLANG_FORMAT) -i $(FORMATTED)

format-check:
	$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

# The drivers read the lists above.
print-%:
	@echo '$($*)'

# ---- what does ----

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(filter-out $(DRIVERS) print-%,$(or $(MAKECMDGOALS),all)),)
ifeq ($(wildcard $(PGXS)),)
$(error $(PG_CONFIG) knows no server to build for: install one (Debian: \
	postgresql-server-dev-15), or name its pg_config: make PG_CONFIG=/path/to/pg_config)
endif
include $(PGXS)

# in a directory of its own, not among those of all extensions
docmoduledir = extension/stripe_sync

# The version-script is an input of the link that PGXS doesn't know.
$(shlib): $(EXPORTS_MAP)

$(EXPORTS_MAP): Makefile
	@mkdir -p $(@D)
	printf '{\n\tglobal:\n$(foreach name,$(EXPORTS),\t\t$(name);\n)\tlocal: *;\n};\n' >$@

# A failing generator must leave nothing behind that looks finished.
src/generated/catalog_data.c: src/types/generate.pl src/types/object_types.json
	@mkdir -p $(@D)
	perl $^ >$@.new
	mv $@.new $@

src/generated/fixture_data.c: src/simulate/fixtures/generate.pl src/simulate/fixtures/objects.json src/simulate/fixtures/stories.json
	@mkdir -p $(@D)
	perl $^ >$@.new
	mv $@.new $@

$(INSTALL_SCRIPT_SQL): src/install/assemble.pl $(INSTALL_SQL) stripe_sync.control Makefile
	perl src/install/assemble.pl $(INSTALL_SQL) >$@.new
	mv $@.new $@

# Objects of another major version, or of other flags, are of no use: this file
# says what they were built for, and is touched only when that changes.
BUILT_FOR = $(shell $(PG_CONFIG) --version) $(CC) $(PROFILE) $(COPT)

.built-for: FORCE
	@echo '$(BUILT_FOR)' | cmp -s - $@ || echo '$(BUILT_FOR)' >$@

.PHONY: FORCE
FORCE:

# What each object includes, by the compiler.
$(OBJS): Makefile .built-for
-include $(OBJS:.o=.d)
endif
