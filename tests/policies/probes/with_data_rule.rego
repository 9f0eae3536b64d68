# expect: equal
# opa: true
package envoy.authz
r := 2
f if data.envoy.authz.r == 1
allow if f with data.envoy.authz.r as 1
