SELECT status, count(*) FROM stripe_sync.event GROUP BY status;
SELECT stripe_sync.explain_event('evt_04');
SELECT id, status, current_period_end FROM stripe.subscriptions
 WHERE customer = 'cus_Ada';
