# expect: equal
# opa: true
package envoy.authz
allow if not "x" != lower(input.a)
