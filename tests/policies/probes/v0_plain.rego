# expect: equal
# opa: true
package envoy.authz
default allow = false
allow { input.method == "GET" }
